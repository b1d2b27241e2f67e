"""The formats of archives: ARFF, IDX and plain rows, by the file's name."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.sources import arff, csv_rows, idx, registry
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.incremental.errors import FormatError


def decode(archive: Archive) -> DigitTable:
    """Decode an archive of any source.

    Raises
    ------
    FormatError
        It is not a file of any source, is damaged or breaks its format.
    """
    return registry.of_file(archive.filename).decode(archive, read)


def read(archive: Archive, shape: Shape) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read pixels and labels.

    Parameters
    ----------
    archive : Archive
        `*.arff.gz`, `*.csv.gz` (rows of pixels and a class, no header) or `*.idx.gz` (MNIST's four
        files, one after another: together they are a gzip file again).
    shape : Shape
        Of the images that are expected.

    Returns
    -------
    pixels : uint8 array of shape (n, pixels), C-contiguous
    labels : uint8 array of shape (n,)

    Raises
    ------
    FormatError
        The file is damaged or breaks its format; the message names the file, where in it, and what
        was expected there.
    """
    is_arff = archive.filename.endswith(".arff.gz")

    @contextmanager
    def body() -> Iterator[tuple[BufferedIOBase, int]]:
        with archive.open() as stream:
            yield stream, arff.skip_header(stream, shape.pixels) if is_arff else 1

    try:
        if archive.filename.endswith(".idx.gz"):
            with archive.open() as stream:
                return idx.decode(stream, shape.width)
        return csv_rows.decode(body, shape.pixels)
    except FormatError as error:
        raise FormatError(f"{archive.filename}, {error}") from None
