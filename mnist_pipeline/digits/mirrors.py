"""Other public places for the same digits, and the proof that they are the same.

A mirror is named by a URL: of OpenML's Parquet copy (`*.pq` or `*.parquet`), or of a folder with
the four original IDX files, gzipped. Which one is asked when is said elsewhere.
"""

from urllib.parse import urlsplit

from mnist_pipeline.digits import columns, mnist, transfer
from mnist_pipeline.digits.archive import MAX_BYTES, Archive, checksum
from mnist_pipeline.digits.errors import SourceError
from mnist_pipeline.digits.transfer import Progress, redacted
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError

PUBLIC = (
    "https://data.openml.org/datasets/0000/0554/dataset_554.pq",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""OpenML's Parquet copy, and the IDX files as PyTorch and TensorFlow users get them."""


def download(
    mirror: str, progress: Progress = lambda done, total: None
) -> tuple[Archive, CheckResult]:
    """Get the digits from a mirror, byte for byte as it serves them, and prove that they are MNIST.

    Of IDX files the bytes are compared with MNIST's MD5 sums before anything reads them. A Parquet
    file can be written in many ways: its digits are compared.

    Returns
    -------
    The archive, and the passed check of its checksum.

    Raises
    ------
    SourceError
        The transfer failed, brought more than `MAX_BYTES`, or something else than MNIST.
    """
    as_is = {"Accept-Encoding": "identity"}
    if urlsplit(mirror).path.endswith((".pq", ".parquet")):
        body = transfer.get(mirror, as_is, most=MAX_BYTES, progress=progress).body
        archive = Archive(body, "mnist_784.parquet")
        try:
            sums = mnist.idx_md5(*columns.decode(body))
        except FormatError as error:
            raise SourceError(f"{redacted(mirror)}: {error}") from None
        if sums != mnist.IDX_MD5:
            raise SourceError(f"{redacted(mirror)}: its digits are not all of MNIST in its order")
    else:
        parts = []
        for name, md5 in mnist.IDX_MD5.items():
            url = f"{mirror}/{name}.gz"
            part = transfer.get(url, as_is, most=MAX_BYTES, progress=progress).body
            result = checksum(Archive(part, f"{name}.gz"), md5)
            if not result.passed:
                raise SourceError(f"{redacted(url)}: {result.description}")
            parts.append(part)
        archive = Archive(b"".join(parts), "mnist.idx.gz")
    description = "its digits are MNIST: written as IDX files they have its four md5 sums"
    return archive, CheckResult(
        "checksum", passed=True, description=description, metadata={"md5": archive.md5}
    )
