"""Pixels of any number of rows as one array: in memory, or mapped from a scratch file."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.arrow import to_numpy
from mnist_pipeline.digits.progress import Progress, Throttled, silent
from mnist_pipeline.incremental.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T", bound=np.generic)

CHUNK = 1 << 14
"""Rows at a time of what may be too large for memory: a row group of the files."""

IN_MEMORY = 200_000
"""The rows of a source with more than these are not in memory: 157 MB of pixels."""


def is_large(rows: int) -> bool:
    """Return whether what is made of a source with so many rows is kept in scratch files."""
    return rows > IN_MEMORY


def slices(rows: int, size: int = CHUNK) -> Iterator[slice]:
    """Yield all rows in order, `size` at a time; of no rows, one slice without any."""
    for start in range(0, max(rows, 1), size):
        yield slice(start, min(start + size, rows))


def of_columns(columns: Sequence["pa.ChunkedArray"]) -> npt.NDArray[np.uint8]:
    """Return the pixels of a table, a column for each: uint8 of shape (n, pixels), C-contiguous."""
    pixels = np.empty((len(columns[0]), len(columns)), np.uint8)
    for number, column in enumerate(columns):
        pixels[:, number] = to_numpy(column)
    return pixels


def stacked(
    chunks: Iterable[npt.NDArray[T]],
    rows: int,
    *,
    large: bool,
    what: str = "images",
    progress: Progress = silent,
) -> npt.NDArray[T]:
    """Put chunks, which have so many rows together, into one array along their first axis.

    A large one is mapped from a scratch file instead of in memory, and cannot be written to. The
    file has no name: it goes with the array, or with this process, however that ends. `what` names
    the rows in messages.

    Raises StoreError where the temporary folder has no room for the scratch file.
    """
    if not (large and rows):
        return np.concatenate(list(chunks))
    throttled, done = Throttled(progress), 0
    row: tuple[int, ...] = ()
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    with tempfile.TemporaryFile(prefix="mnist-pipeline-") as file:
        for chunk in chunks:
            row, dtype = chunk.shape[1:], chunk.dtype
            try:
                file.write(np.ascontiguousarray(chunk).data)
                file.flush()
            except OSError as error:
                size = rows * chunk[:1].nbytes / 1e9
                raise StoreError(
                    f"no room for {size:.1f} GB of {what} in {tempfile.gettempdir()}: "
                    f"{error.strerror}. Make room, or point TMPDIR to where there is some."
                ) from error
            done += len(chunk)
            throttled(f"{done:,} of {rows:,} {what} are made")
        return np.asarray(np.memmap(file, dtype, "r", shape=(rows, *row)))
