"""The download as it is kept: bytes under the source's file name."""

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from functools import cached_property

from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError

MAX_BYTES = 1 << 28
"""Refuse what has, or unpacks to, more than this, 256 MiB: mnist_784 has 0.13 GB."""


@dataclass(frozen=True)
class Archive:
    """A file of digits, byte for byte as its source served it.

    Its name tells the source (`Source.files`), and by its suffix the format (`formats.read`).
    """

    data: bytes
    filename: str

    def unpacked(self) -> bytes:
        """Return the decompressed bytes.

        Raises FormatError where they are not gzip, the stream is cut or damaged, or has more than
        `MAX_BYTES`.
        """
        if not self.filename.endswith(".gz"):
            return self.data
        try:
            with gzip.open(io.BytesIO(self.data)) as stream:
                content = stream.read(MAX_BYTES + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{self.filename} is not a whole gzip file: {error}") from None
        if len(content) > MAX_BYTES:
            raise FormatError(f"{self.filename} has more than {MAX_BYTES:,} bytes: not mnist_784")
        return content

    @cached_property
    def data_version(self) -> str:
        """MD5 of the decompressed bytes, 32 hex digits: what OpenML publishes for a data set.

        The framing of the gzip stream does not count. Raises FormatError as `unpacked`.
        """
        return hashlib.md5(self.unpacked(), usedforsecurity=False).hexdigest()


def checksum(archive: Archive, promised: str) -> CheckResult:
    """The decompressed archive has the MD5 that its source names."""
    try:
        found = archive.data_version
    except FormatError as error:
        return CheckResult("checksum", passed=False, description=str(error))
    description = f"{archive.filename} has md5 {found}, its source promises {promised}"
    return CheckResult("checksum", found == promised, description, {"md5": found})
