"""Splits too large for memory, written and read by row group: columns as in `dataset`."""

import contextlib
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.dataset import COLUMNS, Digits, Origin, facts_of, pixels_of
from mnist_pipeline.digits.pixels import CHUNK, IN_MEMORY, LazyPixels, chunks_of
from mnist_pipeline.digits.shape import PIXEL_NAMES
from mnist_pipeline.incremental.digest import Chunked, content_digest
from mnist_pipeline.incremental.errors import FormatError, StoreError

if TYPE_CHECKING:
    import pyarrow.parquet

_KEPT = 2
"""Row groups in memory, of 13 MB each: rows in order may straddle two."""


@dataclass(frozen=True)
class FiledDigits(Digits):
    """Digits of which a file is known.

    Attributes
    ----------
    version : str
        Their data version, found when the file was written.
    file : Path or None
        A temporary file of them, to be published. It goes when they do.
    """

    version: str
    file: Path | None = None

    @property
    def data_version(self) -> str:
        """What `Digits` would find."""
        return self.version


def write(digits: Digits, watch: Callable[[Digits], None] = lambda part: None) -> FiledDigits:
    """Write digits to a temporary file in one pass, `CHUNK` rows at a time.

    Parameters
    ----------
    digits : Digits
    watch : callable
        Sees every chunk as it comes by.

    Raises
    ------
    StoreError
        The temporary folder has no room for the file.
    """
    import pyarrow as pa
    import pyarrow.parquet

    schema = digits[:0].to_arrow().schema
    folder = Path(tempfile.mkdtemp(prefix="mnist-pipeline-"))
    file = folder / "digits.parquet"
    try:
        with (
            pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
            ThreadPoolExecutor(1) as beside,
        ):

            def chunks() -> Iterator[npt.NDArray[np.uint8]]:
                written: Future[None] = beside.submit(lambda: None)
                for part in chunks_of(digits):
                    written.result()
                    # the next ones are made meanwhile
                    written = beside.submit(_append, writer, part)
                    watch(part)
                    yield part.pixels
                written.result()

            pixels = Chunked(digits.pixels.dtype, digits.pixels.shape, chunks())
            version = content_digest(digits.row_id, pixels, digits.labels, asdict(digits.origin))
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise StoreError(
            f"cannot write {len(digits):,} digits to a file in {tempfile.gettempdir()}: "
            f"{error.strerror or error}. Make room, or point TMPDIR to where there is some."
        ) from error
    # Arrow keeps what it had for the next time, which may be another library's
    pa.default_memory_pool().release_unused()
    found = FiledDigits(digits.row_id, digits.pixels, digits.labels, digits.origin, version, file)
    weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
    return found


def _append(writer: "pyarrow.parquet.ParquetWriter", part: Digits) -> None:
    writer.write_table(part.to_arrow(), CHUNK)


def read(file: BinaryIO, version: str, in_memory: int = IN_MEMORY) -> Digits:
    """Open a file of digits: in memory if its source is small enough, else lazily.

    Parameters
    ----------
    file : binary file
        Taken over: closed when it is no longer needed. Its name may be removed before that.
    version : str
        The data version that it was published under.
    in_memory : int
        Most rows of a source whose digits are in memory.

    Raises
    ------
    FormatError
        The file is not Parquet, has other columns, or values that are missing.
    """
    import pyarrow as pa
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        stack.callback(file.close)
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            origin = Origin(**facts_of(parquet.schema_arrow, COLUMNS)["origin"])
            if origin.rows <= in_memory:
                file.seek(0)
                return Digits.from_parquet(file.read())
            columns = parquet.read(["row_id", "class"])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"not a Parquet file: {error}") from None
        if any(column.null_count for column in columns.columns):
            raise FormatError("there are missing values among the digits")
        row_id, labels = (columns[name].to_numpy() for name in ("row_id", "class"))
        pa.default_memory_pool().release_unused()
        pixels = RowGroups(parquet)
        weakref.finalize(pixels, stack.pop_all().close)
    return FiledDigits(row_id, pixels, labels, origin, version)


class RowGroups(LazyPixels):
    """The pixels in a Parquet file: a row group is read when a row of it is asked for."""

    def __init__(self, file: "pyarrow.parquet.ParquetFile") -> None:
        self._file = file
        groups = file.metadata.num_row_groups
        rows = [file.metadata.row_group(group).num_rows for group in range(groups)]
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._kept: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _at(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        found = np.empty((len(places), len(PIXEL_NAMES)), np.uint8)
        groups = np.searchsorted(self._ends, places, side="right")
        with self._lock:
            for group in np.unique(groups):
                here = groups == group
                rows = self._read(int(group))
                found[here] = rows[places[here] - (self._ends[group] - len(rows))]
        return found

    def _read(self, group: int) -> npt.NDArray[np.uint8]:
        import pyarrow as pa

        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        try:
            pixels = pixels_of(self._file.read_row_group(group, columns=PIXEL_NAMES))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"row group {group} cannot be read: {error}") from None
        self._kept[group] = pixels
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return pixels
