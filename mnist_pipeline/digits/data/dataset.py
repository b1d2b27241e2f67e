"""One split of the digits, and its Parquet file: OpenML's table with `row_id` in front."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.arrow import to_arrow, to_numpy
from mnist_pipeline.digits.data.pixels import CHUNK, is_large, of_columns, slices, stacked
from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row", bound=np.integer)

_META = b"mnist_pipeline"

_STRIDE = 1501
"""From the base row of a made row to that of the next: prime to the number of base rows, so that
each comes as often; of the sample three classes on, so that any stretch of rows has all of them."""


def columns(pixels: int) -> dict[str, str]:
    """Return OpenML's column names and Arrow types for images with so many pixels, in order."""
    names = [f"pixel{number}" for number in range(1, pixels + 1)]
    return {"row_id": "int32"} | dict.fromkeys(names, "uint8") | {"class": "uint8"}


def base_of(row_id: npt.NDArray[Row], bases: int) -> npt.NDArray[Row]:
    """Return the base row, below `bases`, of each row: its own, or what it is made from."""
    base = row_id % bases
    base *= _STRIDE
    base %= bases
    np.copyto(base, row_id, where=row_id < bases)
    return base


@dataclass(frozen=True)
class Origin:
    """Which split of which table of digits some rows are: kept in every file made from them.

    `table` is the digest of all decoded digits of the source (`DigitTable.digest`), `rows` how many
    these are, and `is_mnist` whether they are all of MNIST, in MNIST's own order. `bases` is how
    many rows, the first ones, all others are made from (`base_of`), as deformed digits are; None
    where no row is made from another.
    """

    source: str
    table: str
    rows: int
    is_mnist: bool
    test_size: float
    random_state: int
    bases: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What files record: all but `bases` where that is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def described(self, noun: str = "digit") -> str:
        """Whose images these are, in a few words; `noun` is what one shows."""
        whole = ", all of MNIST" if self.is_mnist else ""
        return f"{self.rows:,} {noun}s of the source {self.source}{whole}"

    @property
    def is_large(self) -> bool:
        """Whether the table has too many digits for memory."""
        return is_large(self.rows)

    def draw(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the row ids of the training part and of the test part, in scikit-learn's order.

        Where rows are made from others, the base rows are split so, and every other row goes where
        its base row goes: no model learns from what is made of a test digit. Within a part, rows
        are shuffled then.
        """
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            np.arange(self.bases or self.rows, dtype=np.int32),
            test_size=self.test_size,
            random_state=self.random_state,
        )
        if self.bases is None:
            return train, test
        every = np.arange(self.rows, dtype=np.int32)
        in_test = np.isin(np.arange(self.bases), test)[self.together(every)]
        # its stream is the same in every numpy
        shuffle = np.random.RandomState(self.random_state).permutation
        return shuffle(every[~in_test]), shuffle(every[in_test])

    def together(self, row_id: npt.NDArray[np.int32]) -> npt.NDArray[np.integer]:
        """Return a number for each row that it shares with those it must not be parted from.

        That of its base row; where no row is made from another, each stands alone.
        """
        return row_id if self.bases is None else base_of(row_id, self.bases)


@dataclass(frozen=True)
class Digits:
    """Some rows of the source, in the order of the split.

    `row_id`, int32 of shape (n,), is the row in the source's file, from 0. `pixels`, uint8 of shape
    (n, width * width), are in memory, or mapped from a file where the source is large; not to be
    written to. `labels` are uint8 of shape (n,).
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
        return content_digest(self.row_id, self.pixels, self.labels, self.origin.facts)

    def __getitem__(self, rows: slice) -> "Digits":
        """Return some rows: views of the same arrays."""
        return Digits(self.row_id[rows], self.pixels[rows], self.labels[rows], self.origin)

    def chosen(self, places: npt.NDArray[np.integer]) -> "Digits":
        """Return copies of the rows at these places."""
        chunks = (self.pixels[places[rows]] for rows in slices(len(places)))
        pixels = stacked(chunks, len(places), large=self.origin.is_large)
        return Digits(self.row_id[places], pixels, self.labels[places], self.origin)

    def to_arrow(self) -> "pa.Table":
        """Return the table as it is filed: `row_id`, `pixel1`, `pixel2` and so on, `class`."""
        import pyarrow as pa

        numbers = [self.row_id, *np.ascontiguousarray(self.pixels.T), self.labels]
        values = [to_arrow(np.ascontiguousarray(column)) for column in numbers]
        names = list(columns(self.pixels.shape[1]))
        return with_metadata(pa.table(values, names=names), origin=self.origin.facts)

    def write(self, file: Path | BinaryIO) -> None:
        """Encode as Parquet (zstd), a row group at a time."""
        import pyarrow as pa
        import pyarrow.parquet

        schema = self[:0].to_arrow().schema
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in slices(len(self)):
                writer.write_table(self[rows].to_arrow(), CHUNK)
        # Arrow keeps what it had for the next time, which may be another library's
        pa.default_memory_pool().release_unused()

    @classmethod
    def read(cls, file: Path | BinaryIO) -> Self:
        """Decode what `write` made, a row group at a time.

        Raises FormatError where the file is not Parquet or has other columns, StoreError where the
        temporary folder has no room for the pixels of a large source.
        """
        import pyarrow as pa
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(file) as parquet:
                names = [name for name in parquet.schema_arrow.names if name.startswith("pixel")]
                facts = facts_of(parquet.schema_arrow, columns(len(names) or Shape().pixels))
                origin = Origin(**facts["origin"])
                row_id, labels = parquet.read(["row_id", "class"])
                groups = (parquet.read_row_group(n, names) for n in range(parquet.num_row_groups))
                chunks = (of_columns(group.columns) for group in groups)
                pixels = stacked(chunks, len(labels), large=origin.is_large)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"not a Parquet file: {error}") from None
        pa.default_memory_pool().release_unused()
        return cls(to_numpy(row_id), pixels, to_numpy(labels), origin)


def with_metadata(table: "pa.Table", **metadata: Any) -> "pa.Table":
    """Put JSON-like facts beside the columns, under this project's key of the schema metadata."""
    return table.replace_schema_metadata({_META: json.dumps(metadata, sort_keys=True)})


def facts_of(schema: "pa.Schema", columns: dict[str, str]) -> dict[str, Any]:
    """Check that a file has these columns; return `with_metadata`'s facts.

    Raises FormatError where it has other columns or types, or comes without those facts.
    """
    found = {field.name: str(field.type) for field in schema}
    if list(found.items()) != list(columns.items()):
        different = sorted(found.items() ^ columns.items())
        raise FormatError(f"the columns are not {', '.join(columns)[:60]} ...: {different[:6]}")
    if _META not in (schema.metadata or {}):
        raise FormatError("the file has no facts about its split: this project did not write it")
    facts: dict[str, Any] = json.loads(schema.metadata[_META])
    return facts
