"""Other public places for the same digits, and the proof that they are the same.

A mirror is the URL of a folder with the four original IDX files, gzipped.
"""

from mnist_pipeline.digits.errors import SourceError
from mnist_pipeline.digits.sources import checksums, transfer
from mnist_pipeline.digits.sources.archive import MAX_BYTES, Archive, checksum
from mnist_pipeline.digits.sources.transfer import Progress, redacted
from mnist_pipeline.incremental.check import CheckResult

PUBLIC = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""The IDX files as PyTorch and TensorFlow users get them."""


def download(
    mirror: str, progress: Progress = lambda done, total: None
) -> tuple[Archive, CheckResult]:
    """Get the digits from a mirror, byte for byte as it serves them, and prove that they are MNIST.

    The bytes are compared with MNIST's MD5 sums before anything reads them.

    Returns
    -------
    The archive, and the passed check of its checksum.

    Raises
    ------
    SourceError
        The transfer failed, brought more than `MAX_BYTES`, or something else than MNIST.
    """
    parts = []
    for name, md5 in checksums.IDX_MD5.items():
        url = f"{mirror}/{name}.gz"
        as_is = {"Accept-Encoding": "identity"}
        part = transfer.get(url, as_is, most=MAX_BYTES, progress=progress).body
        result = checksum(Archive(part, f"{name}.gz"), md5)
        if not result.passed:
            raise SourceError(f"{redacted(url)}: {result.description}")
        parts.append(part)
    archive = Archive(b"".join(parts), "mnist.idx.gz")
    description = "its four IDX files have the md5 sums of MNIST's"
    return archive, CheckResult(
        "checksum", passed=True, description=description, metadata={"md5": archive.md5}
    )
