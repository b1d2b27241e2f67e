"""The formats of archives: ARFF, IDX and plain rows, by the file's name."""

import io

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.sources import arff, csv_rows, idx, registry
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.incremental.errors import FormatError


def decode(archive: Archive) -> DigitTable:
    """Decode an archive of any source.

    Raises FormatError where it is not a file of any source, is damaged or breaks its format.
    """
    return registry.of_file(archive.filename).decode(archive, read)


def read(archive: Archive, shape: Shape) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read pixels, uint8 of shape (n, pixels) and C-contiguous, and labels, uint8 of shape (n,).

    The archive is `*.arff.gz`, `*.csv.gz` (rows of pixels and a class, no header) or `*.idx.gz`
    (MNIST's four files, one after another: together they are a gzip file again).

    Raises FormatError where the file is damaged or breaks its format; the message names the file,
    where in it, and what was expected there.
    """
    try:
        stream = io.BytesIO(archive.unpacked())
        if archive.filename.endswith(".idx.gz"):
            return idx.decode(stream, shape.width)
        first_line = 1
        if archive.filename.endswith(".arff.gz"):
            first_line = arff.skip_header(stream, shape.pixels)
        return csv_rows.decode(stream, shape.pixels, first_line)
    except FormatError as error:
        raise FormatError(f"{archive.filename}, {error}") from None
