"""The reader of OpenML's own Parquet copy of the digits: its columns are those of the ARFF.

The project's own Parquet files, which have `row_id` in front, are `dataset`'s.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.archive import MAX_BYTES
from mnist_pipeline.digits.shape import CLASSES, PIXEL_NAMES, PIXELS
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

_ROWS = 2048
_NUMBERS = {"INT32", "INT64", "FLOAT", "DOUBLE"}
_VALUE_BYTES = 16
_COLUMN_BYTES = 1 << 16


def decode(data: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode the columns `pixel1` ... `pixel784` and `class`, whatever types hold their integers.

    Returns
    -------
    pixels : uint8 array of shape (n, 784)
    labels : uint8 array of shape (n,)

    Raises
    ------
    FormatError
        The bytes are not Parquet, have other columns, or values that are no pixels or classes.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(
            pa.BufferReader(data), pre_buffer=False, read_dictionary=["class"]
        )
        if file.schema_arrow.names != [*PIXEL_NAMES, "class"]:
            found = ", ".join(file.schema_arrow.names)
            raise FormatError(f"expected the columns pixel1 ... pixel784, class, found {found:.60}")
        count = file.metadata.num_rows
        if not 0 < count <= MAX_BYTES // PIXELS:
            raise FormatError(f"expected some 70,000 rows, found {count:,}")
        _expect_small(file.metadata)
        pixels = np.empty((count, PIXELS), np.uint8)
        labels = np.empty(count, np.uint8)
        start = 0
        for batch in file.iter_batches(_ROWS, use_threads=False):
            rows = slice(start, start := start + batch.num_rows)
            columns = [_bytes(column) for column in batch.columns]
            pixels[rows] = np.stack(columns[:PIXELS], axis=1)
            labels[rows] = columns[PIXELS]
    except (pa.ArrowException, OSError, ValueError) as error:
        # Arrow quotes values, however long
        raise FormatError(f"not the Parquet copy of mnist_784: {str(error)[:200]}") from None
    if start != count or labels.max() >= CLASSES:
        raise FormatError(f"expected {count:,} rows of classes from 0 to 9, found others")
    return pixels, labels


def _expect_small(metadata: "pyarrow.parquet.FileMetaData") -> None:
    """Refuse columns that would unpack to more than numbers do, by what the file says of them."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for index in range(rows.num_columns):
            column = rows.column(index)
            kinds = _NUMBERS if index < PIXELS else {*_NUMBERS, "BYTE_ARRAY"}
            most = _VALUE_BYTES * rows.num_rows + _COLUMN_BYTES
            if column.physical_type not in kinds or column.total_uncompressed_size > most:
                raise FormatError(
                    f"{column.path_in_schema[:20]} holds {column.total_uncompressed_size:,} bytes "
                    f"of {column.physical_type}: no numbers of {rows.num_rows:,} digits"
                )


def _bytes(column: "pa.Array") -> npt.NDArray[np.uint8]:
    import pyarrow as pa

    if column.null_count:
        raise FormatError("it has missing values")
    if pa.types.is_dictionary(column.type):
        # few values, however often and however long
        column = column.dictionary.cast(pa.uint8()).take(column.indices)
    values: npt.NDArray[np.uint8] = column.cast(pa.uint8()).to_numpy()
    return values
