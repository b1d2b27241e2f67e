"""The decoded source: all of its digits in its own row order, whichever format they came in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits import arff, columns, idx, mnist, rows
from mnist_pipeline.digits.archive import Archive, Source
from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.errors import FormatError


@dataclass(frozen=True)
class DigitTable:
    """All digits of a source. `row_id` is the position in it, from 0.

    Attributes
    ----------
    pixels : uint8 array of shape (n, 784)
        28 x 28 images, row by row from the top left; 0 is background, 255 full ink.
    labels : uint8 array of shape (n,)
        The digit that each image shows, 0-9.
    source : {"openml", "sample"}
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    source: Source

    @cached_property
    def digest(self) -> str:
        """Digest of all pixels and labels, in row order."""
        return content_digest(self.pixels, self.labels)

    @cached_property
    def is_mnist(self) -> bool:
        """Whether these are all 70,000 digits of MNIST, in its own order, proven by `mnist`."""
        return len(self.labels) == mnist.ROWS and (
            mnist.idx_md5(self.pixels, self.labels) == mnist.IDX_MD5
        )


def decode(archive: Archive) -> DigitTable:
    """Decode an archive of any format.

    Raises
    ------
    FormatError
        The file is damaged or breaks its format; the message names the file, where in it, and what
        was expected there.
    """

    @contextmanager
    def body() -> Iterator[tuple[BufferedIOBase, int]]:
        with archive.open() as stream:
            yield stream, arff.skip_header(stream) if archive.source == "openml" else 1

    try:
        if archive.filename.endswith(".parquet"):
            digits = columns.decode(archive.data)
        elif archive.filename.endswith(".idx.gz"):
            with archive.open() as stream:
                digits = idx.decode(stream)
        else:
            digits = rows.decode(body)
    except FormatError as error:
        raise FormatError(f"{archive.filename}, {error}") from None
    return DigitTable(*digits, archive.source)
