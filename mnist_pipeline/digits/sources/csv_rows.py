"""The body shared by the formats ARFF and CSV: comma-separated rows of pixels and a class."""

import re
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.arrow import to_numpy
from mnist_pipeline.digits.data.pixels import of_columns
from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 22
"""Bytes that pyarrow parses at a time, 4 MiB; no line may have more."""

_COMMENT = re.compile(rb"%.*")
_BLANK = re.compile(rb"(?m)^[ \t]+$")
_NUMBER = re.compile(rb"[ \t]*0*(\d{1,3})[ \t]*")


def decode(
    stream: BinaryIO, width: int, first_line: int = 1
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode every row of `width` pixels and a class.

    Blank lines, comments from `%` to the end of the line, CRLF, and blanks around values are
    accepted. Every value must be an integer from 0 to 255 and every class one from 0 to 9; there
    are no missing values. `first_line` is the number of the stream's next line, for messages.

    Returned are pixels, uint8 of shape (n, width) and C-contiguous, and labels, uint8 of shape
    (n,). Raises FormatError, which names the line, what is in it and what was expected.
    """
    pixels, labels = [], []
    number = first_line
    # in parts: pyarrow needs twice as much memory as it is given
    while lines := stream.readlines(4 * _BLOCK):
        text = b"".join(lines)
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        if b"%" in text:
            text = _COMMENT.sub(b"", text)
        if b" " in text or b"\t" in text:
            text = _BLANK.sub(b"", text)
        if text.strip():
            *columns, last = _parsed(text, width, number).columns
            pixels.append(of_columns(columns))
            labels.append(to_numpy(last))
        number += len(lines)
    if not labels:
        raise FormatError(f"line {first_line}: expected rows of digits, found none")
    return np.concatenate(pixels), np.concatenate(labels)


def _parsed(text: bytes, width: int, first_line: int) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.csv

    # pyarrow would accept hexadecimal numbers, a byte order mark, and CR as the end of a line
    if text.translate(None, b"0123456789, \t\n"):
        raise _first_error(text, width, first_line)
    # pyarrow would swallow an interrupt
    pa.enable_signal_handlers(False)
    names = [str(column) for column in range(width + 1)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=_BLOCK),
            parse_options=pyarrow.csv.ParseOptions(quote_char=False, escape_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.uint8()), null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        raise _first_error(text, width, first_line) from None
    if to_numpy(table.column(width)).max() >= CLASSES:
        raise _first_error(text, width, first_line)
    return table


def _first_error(text: bytes, width: int, first_line: int) -> FormatError:
    """Find the first line that `decode` refuses."""
    for number, line in enumerate(text.split(b"\n"), first_line):
        if not line:
            continue
        if (found := line.count(b",") + 1) != width + 1:
            return FormatError(
                f"line {number}: expected {width} pixels and a class, found {found} values"
            )
        for column, value in enumerate(line.split(b","), 1):
            name, most = ("class", CLASSES - 1) if column > width else (f"pixel{column}", 255)
            digits = _NUMBER.fullmatch(value)
            if digits is None or int(digits[1]) > most:
                shown = value.strip()[:40].decode("latin-1")
                return FormatError(
                    f"line {number}: expected an integer from 0 to {most} as {name}, "
                    f"found {shown!r}"
                )
    return FormatError(f"line {first_line} or a later one is longer than {_BLOCK:,} bytes")
