"""One split of the digits, and its Parquet file: OpenML's table with `row_id` in front."""

import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.archive import Source
from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.digits.shape import PIXEL_NAMES, PIXELS
from mnist_pipeline.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {"row_id": "int32"} | dict.fromkeys(PIXEL_NAMES, "uint8") | {"class": "uint8"}
"""Column names and Arrow types of the file, in order."""

ROW_GROUP = 1 << 14
"""Rows a row group: few enough to stream, many enough to compress."""

_META = b"mnist_pipeline"


@dataclass(frozen=True)
class Origin:
    """Which split of which table of digits some rows are: kept in every file made from them.

    Attributes
    ----------
    source : {"openml", "sample"}
        Where the digits come from.
    table : str
        Digest of all decoded digits of the source (`DigitTable.digest`).
    rows : int
        How many digits that table has.
    is_mnist : bool
        Whether that table is all of MNIST, in MNIST's own order.
    test_size, random_state
        Arguments of the split.
    """

    source: Source
    table: str
    rows: int
    is_mnist: bool
    test_size: float
    random_state: int

    def draw(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the row ids of the training part and of the test part, in scikit-learn's order."""
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            np.arange(self.rows, dtype=np.int32),
            test_size=self.test_size,
            random_state=self.random_state,
        )
        return train, test


@dataclass(frozen=True)
class Digits:
    """Some rows of the source, in the order of the split.

    Attributes
    ----------
    row_id : int32 array of shape (n,)
        The row in the source's file, from 0.
    pixels : uint8 array of shape (n, 784)
    labels : uint8 array of shape (n,)
    origin : Origin
    """

    row_id: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def data_version(self) -> str:
        """Digest of rows, pixels, labels and origin."""
        return content_digest(self.row_id, self.pixels, self.labels, asdict(self.origin))

    def to_arrow(self) -> "pa.Table":
        """Return the table as it is filed: `row_id`, `pixel1` ... `pixel784`, `class`."""
        import pyarrow as pa

        columns = [self.row_id, *np.ascontiguousarray(self.pixels.T), self.labels]
        return with_metadata(pa.table(columns, names=list(COLUMNS)), origin=asdict(self.origin))

    def to_parquet(self) -> bytes:
        """Encode as Parquet (zstd)."""
        return to_parquet(self.to_arrow())

    @classmethod
    def from_parquet(cls, data: bytes) -> Self:
        """Decode what `to_parquet` made.

        Raises
        ------
        FormatError
            The file is not Parquet, or has other columns.
        """
        table, metadata = from_parquet(data, COLUMNS)
        if any(column.null_count for column in table.columns):
            raise FormatError("there are missing values among the digits")
        pixels = np.empty((table.num_rows, PIXELS), np.uint8)
        for column, name in enumerate(PIXEL_NAMES):
            pixels[:, column] = table[name].to_numpy()
        return cls(
            table["row_id"].to_numpy(),
            pixels,
            table["class"].to_numpy(),
            Origin(**metadata["origin"]),
        )


def with_metadata(table: "pa.Table", **metadata: Any) -> "pa.Table":
    """Put JSON-like facts beside the columns, under this project's key of the schema metadata."""
    return table.replace_schema_metadata({_META: json.dumps(metadata, sort_keys=True)})


def to_parquet(table: "pa.Table") -> bytes:
    """Encode an Arrow table as zstd Parquet in memory."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd", row_group_size=ROW_GROUP)
    return buffer.getvalue()


def from_parquet(data: bytes, columns: dict[str, str]) -> tuple["pa.Table", dict[str, Any]]:
    """Decode Parquet and check that it has these columns; also return `with_metadata`'s facts.

    Raises
    ------
    FormatError
        The bytes are not Parquet, have other columns or types, or come without those facts.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"not a Parquet file: {error}") from None
    found = {field.name: str(field.type) for field in table.schema}
    if list(found.items()) != list(columns.items()):
        different = sorted(found.items() ^ columns.items())
        raise FormatError(f"the columns are not {', '.join(columns)[:60]} ...: {different[:6]}")
    if _META not in (table.schema.metadata or {}):
        raise FormatError("the file does not say which split its rows are of: not made here")
    return table, json.loads(table.schema.metadata[_META])
