"""One split of the digits, and its Parquet file: OpenML's table with `row_id` in front."""

import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits import infinite
from mnist_pipeline.digits.archive import Source
from mnist_pipeline.digits.pixels import CHUNK, Pixels, chosen, chunked
from mnist_pipeline.digits.shape import PIXEL_NAMES, PIXELS
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {"row_id": "int32"} | dict.fromkeys(PIXEL_NAMES, "uint8") | {"class": "uint8"}
"""Column names and Arrow types of the file, in order."""

_META = b"mnist_pipeline"


@dataclass(frozen=True)
class Origin:
    """Which split of which table of digits some rows are: kept in every file made from them.

    Attributes
    ----------
    source : {"openml", "sample", "infinite"}
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
        """Return the row ids of the training part and of the test part, in scikit-learn's order.

        Of generated digits the base is split so, and the others after it: `infinite.draw`.
        """
        if self.source == "infinite":
            return infinite.draw(
                self.rows, test_size=self.test_size, random_state=self.random_state
            )
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            np.arange(self.rows, dtype=np.int32),
            test_size=self.test_size,
            random_state=self.random_state,
        )
        return train, test

    def together(self, row_id: npt.NDArray[np.int32]) -> npt.NDArray[np.integer]:
        """Return a number for each row that it shares with those it must not be parted from.

        Deformed digits have that of their base digit; any other row stands alone.
        """
        return infinite.base_of(row_id) if self.source == "infinite" else row_id


@dataclass(frozen=True)
class Digits:
    """Some rows of the source, in the order of the split.

    Attributes
    ----------
    row_id : int32 array of shape (n,)
        The row in the source's file, from 0.
    pixels : uint8 array of shape (n, 784), or lazy
    labels : uint8 array of shape (n,)
    origin : Origin
    """

    row_id: npt.NDArray[np.int32]
    pixels: Pixels
    labels: npt.NDArray[np.uint8]
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def data_version(self) -> str:
        """Digest of rows, pixels, labels and origin."""
        pixels = chunked(self.pixels)
        return content_digest(self.row_id, pixels, self.labels, asdict(self.origin))

    def __getitem__(self, rows: slice) -> "Digits":
        """Return some rows, in memory."""
        return Digits(self.row_id[rows], self.pixels[rows], self.labels[rows], self.origin)

    def chosen(self, places: npt.NDArray[np.integer]) -> "Digits":
        """Return the rows at these places, lazily where the pixels are lazy."""
        pixels = chosen(self.pixels, places)
        return Digits(self.row_id[places], pixels, self.labels[places], self.origin)

    def to_arrow(self) -> "pa.Table":
        """Return the table as it is filed: `row_id`, `pixel1` ... `pixel784`, `class`."""
        import pyarrow as pa

        columns = [self.row_id, *np.ascontiguousarray(self.pixels[:].T), self.labels]
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
        return cls(
            table["row_id"].to_numpy(),
            pixels_of(table),
            table["class"].to_numpy(),
            Origin(**metadata["origin"]),
        )


def pixels_of(table: "pa.Table") -> npt.NDArray[np.uint8]:
    """Return the pixels of a table of digits, shape (n, 784).

    Raises
    ------
    FormatError
        Some value of the table is missing.
    """
    if any(column.null_count for column in table.columns):
        raise FormatError("there are missing values among the digits")
    pixels = np.empty((table.num_rows, PIXELS), np.uint8)
    for column, name in enumerate(PIXEL_NAMES):
        pixels[:, column] = table[name].to_numpy()
    return pixels


def with_metadata(table: "pa.Table", **metadata: Any) -> "pa.Table":
    """Put JSON-like facts beside the columns, under this project's key of the schema metadata."""
    return table.replace_schema_metadata({_META: json.dumps(metadata, sort_keys=True)})


def to_parquet(table: "pa.Table") -> bytes:
    """Encode an Arrow table as zstd Parquet in memory."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd", row_group_size=CHUNK)
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
    return table, facts_of(table.schema, columns)


def facts_of(schema: "pa.Schema", columns: dict[str, str]) -> dict[str, Any]:
    """Check that a file has these columns; return `with_metadata`'s facts.

    Raises
    ------
    FormatError
        It has other columns or types, or comes without those facts.
    """
    found = {field.name: str(field.type) for field in schema}
    if list(found.items()) != list(columns.items()):
        different = sorted(found.items() ^ columns.items())
        raise FormatError(f"the columns are not {', '.join(columns)[:60]} ...: {different[:6]}")
    if _META not in (schema.metadata or {}):
        raise FormatError("the file does not say which split its rows are of: not made here")
    facts: dict[str, Any] = json.loads(schema.metadata[_META])
    return facts
