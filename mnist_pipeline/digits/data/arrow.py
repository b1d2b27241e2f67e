"""Arrays between numpy and Arrow, without pandas: `pyarrow.array` and `to_numpy` import it.

That takes half a second.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa


def to_arrow(values: npt.NDArray[Any]) -> "pa.Array[Any]":
    """Return a C-contiguous array of numbers of shape (n,) as an Arrow array that shares it."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def to_numpy(column: "pa.ChunkedArray") -> npt.NDArray[Any]:
    """Return a column of numbers without nulls as an array of shape (n,), not to be written to."""
    return np.from_dlpack(column.combine_chunks())
