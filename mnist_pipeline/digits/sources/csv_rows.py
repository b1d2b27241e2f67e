"""The body shared by the source's formats: comma-separated rows of pixels and a class.

Decoding is strict and fast: pyarrow's CSV reader does the work, and lines that are more than
digits and commas pass through a small row parser first, which also finds the line of an error.
"""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.digits.sources.archive import CHUNK
from mnist_pipeline.incremental.errors import FormatError

MAX_LINE = CHUNK
"""A longer line, in bytes, is refused: 785 numbers need less than 10,000."""

Body = Callable[[], AbstractContextManager[tuple[io.BufferedIOBase, int]]]
"""Opens the body anew: the stream at its first row, and that row's line number (from 1)."""


def decode(body: Body, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode every row of `width` pixels and a class.

    Blank lines, comments from `%` to the end of the line, CRLF, white space around values and
    quoted values are accepted, as the ARFF format allows them. Every value must be an integer from
    0 to 255 and every class one from 0 to 9; there are no missing values.

    Returns
    -------
    pixels : uint8 array of shape (n, width), C-contiguous
    labels : uint8 array of shape (n,)

    Raises
    ------
    FormatError
        Names the line, what is in it and what was expected.
    """
    import pyarrow as pa
    import pyarrow.csv

    # pyarrow would swallow an interrupt
    pa.enable_signal_handlers(False)
    names = [str(column) for column in range(width + 1)]
    try:
        with body() as (stream, _):
            table = pyarrow.csv.read_csv(
                pa.PythonFile(_PlainRows(stream, width), mode="r"),
                read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=4 * CHUNK),
                parse_options=pyarrow.csv.ParseOptions(quote_char=False, escape_char=False),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.uint8()), null_values=[]
                ),
            )
    except (pa.ArrowInvalid, _RowError) as error:
        raise _first_error(body, width, str(error)) from None
    pixels = np.empty((table.num_rows, width), np.uint8)
    labels = np.empty(table.num_rows, np.uint8)
    start = 0
    for batch in table.to_batches():
        rows = slice(start, start := start + batch.num_rows)
        columns = [column.to_numpy() for column in batch.columns]
        pixels[rows] = np.stack(columns[:width], axis=1)
        labels[rows] = columns[width]
    if labels.max(initial=0 if start else CLASSES) >= CLASSES:
        raise _first_error(body, width, "a class beyond 9")
    return pixels, labels


class _RowError(Exception):
    """A line that the row parser refuses."""


class _PlainRows(io.RawIOBase):
    """The stream with everything but digits, commas and line ends taken out, line by line."""

    def __init__(self, stream: io.BufferedIOBase, width: int) -> None:
        self._stream = stream
        self._width = width
        self._rest = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while not self._ready:
            chunk = self._stream.read(CHUNK)
            whole, end, rest = (self._rest + chunk).rpartition(b"\n")
            if not chunk:
                whole, rest = self._rest, b""
            if len(rest) > MAX_LINE:
                raise _RowError("line too long")
            self._rest = rest
            self._ready = memoryview(_plain(whole + end, self._width))
            if not chunk:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _plain(lines: bytes, width: int) -> bytes:
    # a single blank beside a comma is common and quick to take out
    tight = lines.replace(b", ", b",").replace(b" ,", b",") if b" " in lines else lines
    if not tight.translate(None, b"0123456789,\r\n") and tight.count(b"\r") == tight.count(b"\r\n"):
        return tight
    rows = filter(None, (_row(line, width) for line in lines.split(b"\n")))
    return b"".join(b"%s\n" % b",".join(b"%d" % number for number in row) for row in rows)


def _row(line: bytes, width: int) -> list[int]:
    """Parse one line; a blank line or a comment is an empty row."""
    text = line.partition(b"%")[0].strip()
    if not text:
        return []
    tokens = text.split(b",")
    if len(tokens) != width + 1:
        raise _RowError(f"expected {width} pixels and a class, found {len(tokens)} values")
    numbers = [_number(token, column, width) for column, token in enumerate(tokens)]
    if numbers[-1] >= CLASSES:
        raise _RowError(f"expected a class from 0 to 9, found {numbers[-1]}")
    return numbers


def _number(token: bytes, column: int, width: int) -> int:
    text = token.strip()
    if len(text) >= 2 and text[:1] in b"'\"" and text[:1] == text[-1:]:
        text = text[1:-1]
    # int() refuses thousands of digits, leading zeros too
    digits = text.lstrip(b"0") or b"0"
    if text.isdigit() and len(digits) <= 3 and int(digits) <= 255:
        return int(digits)
    name = "class" if column == width else f"pixel{column + 1}"
    found = "a missing value (?)" if text == b"?" else repr(text[:40].decode("latin-1"))
    expected = "an integer from 0 to 9" if column == width else "an integer from 0 to 255"
    raise _RowError(f"expected {expected} as {name}, found {found}")


def _first_error(body: Body, width: int, otherwise: str) -> FormatError:
    found = False
    with body() as (stream, number):
        while line := stream.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                return FormatError(f"line {number}: longer than {MAX_LINE:,} bytes")
            try:
                found |= bool(_row(line, width))
            except _RowError as error:
                return FormatError(f"line {number}: {error}")
            number += 1
        if not found:
            return FormatError(f"line {number}: expected rows of digits, found none")
    return FormatError(otherwise)
