"""The download as it is kept: bytes under the source's file name."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError

CHUNK = 1 << 20
"""Bytes read at a time, 1 MiB."""

MAX_BYTES = 1 << 28
"""Refuse what has, or unpacks to, more than this, 256 MiB: mnist_784 has 0.13 GB."""


@dataclass(frozen=True)
class Archive:
    """A file of digits, byte for byte as its source served it.

    Attributes
    ----------
    data : bytes
    filename : str
        Names the source (`Source.files`), and by its suffix the format (`formats.read`).
    """

    data: bytes
    filename: str

    @property
    def data_version(self) -> str:
        """The MD5 that OpenML itself goes by: the framing of the gzip stream does not count."""
        return self.md5

    @contextmanager
    def open(self) -> Iterator[io.BufferedIOBase]:
        """Open the decompressed bytes for reading, from the start.

        Raises
        ------
        FormatError
            The bytes are not gzip, the stream is cut or damaged, or has more than `MAX_BYTES`.
        """
        stream: io.BufferedIOBase = io.BytesIO(self.data)
        if self.filename.endswith(".gz"):
            stream = gzip.GzipFile(fileobj=stream)
        try:
            with io.BufferedReader(_Bounded(stream, self.filename), CHUNK) as bounded:
                yield bounded
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{self.filename} is not a whole gzip file: {error}") from None

    @cached_property
    def md5(self) -> str:
        """MD5 of the decompressed bytes, 32 hex digits: what OpenML publishes for a data set.

        Raises
        ------
        FormatError
            As `open`.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with self.open() as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


class _Bounded(io.RawIOBase):
    """A stream that fails where it goes on beyond `MAX_BYTES`."""

    def __init__(self, stream: io.BufferedIOBase, name: str) -> None:
        self._stream = stream
        self._name = name
        self._left = MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise FormatError(f"{self._name} has more than {MAX_BYTES:,} bytes: not mnist_784")
        return count


def checksum(archive: Archive, promised: str) -> CheckResult:
    """The decompressed archive has the MD5 that its source names."""
    try:
        found = archive.md5
    except FormatError as error:
        return CheckResult("checksum", passed=False, description=str(error))
    description = f"{archive.filename} has md5 {found}, its source promises {promised}"
    return CheckResult("checksum", found == promised, description, {"md5": found})
