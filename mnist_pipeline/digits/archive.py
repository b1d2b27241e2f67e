"""The download as it is kept: gzip bytes under the source's file name. Not where they come from."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mnist_pipeline.digits.verdict import Verdict
from mnist_pipeline.errors import FormatError

Source = Literal["openml", "sample"]
"""Where digits come from."""

CHUNK = 1 << 20
"""Bytes read at a time, 1 MiB."""

MAX_BYTES = 1 << 30
"""Refuse what unpacks to more than this, 1 GiB: mnist_784 has 0.13 GB."""


@dataclass(frozen=True)
class Archive:
    """A gzip-compressed table of digits, byte for byte as its source served it.

    Attributes
    ----------
    data : bytes
        The gzip stream.
    filename : str
        Names the format: `*.arff.gz` (OpenML) or `*.csv.gz` (the sample).
    """

    data: bytes
    filename: str

    @property
    def source(self) -> Source:
        """Which source serves this format."""
        return "sample" if self.filename.endswith(".csv.gz") else "openml"

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
            The bytes are not gzip, or the stream is cut or damaged.
        """
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(self.data)) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{self.filename} is not a whole gzip file: {error}") from None

    @cached_property
    def md5(self) -> str:
        """MD5 of the decompressed bytes, 32 hex digits: what OpenML publishes for a data set.

        Raises
        ------
        FormatError
            The archive is damaged, or unpacks to more than `MAX_BYTES`.
        """
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with self.open() as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise FormatError(
                        f"{self.filename} unpacks to more than {MAX_BYTES:,} bytes: not mnist_784"
                    )
        return digest.hexdigest()


def checksum(archive: Archive, promised: str) -> Verdict:
    """The decompressed archive has the MD5 that its source names."""
    try:
        found = archive.md5
    except FormatError as error:
        return Verdict("checksum", passed=False, saw=str(error))
    saw = f"{archive.filename} has md5 {found}, its source promises {promised}"
    return Verdict("checksum", found == promised, saw, {"md5": found})
