"""The ARFF header of mnist_784: checked, then stepped over. `csv_rows` reads the rows below it.

Format: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/
"""

import re
from typing import BinaryIO

from mnist_pipeline.incremental.errors import FormatError

_ATTRIBUTE = re.compile(r"@attribute\s+(['\"]?)(\w+)\1(?:\s+|(?=\{))(\{.*\}|\w+)", re.IGNORECASE)
_MOST_LINES = 100_000
_MOST_BYTES = 1_000_000
"""Of a line."""

_DIGITS = "{0,1,2,3,4,5,6,7,8,9}"


def skip_header(stream: BinaryIO, pixels: int) -> int:
    """Check the header; return the number (from 1) of the first line after `@DATA`, the next one.

    Expected are `pixels` numeric attributes, `pixel1` ... `pixel784` in this order,
    then `class` with the values 0 to 9. Comments, blank lines, quoted names and any letter case are
    allowed. Raises FormatError, which names the line and what was expected there.
    """
    found = 0
    for number in range(1, _MOST_LINES):
        line = stream.readline(_MOST_BYTES + 1)
        if not line or len(line) > _MOST_BYTES:
            break
        text = line.partition(b"%")[0].strip().decode("latin-1")
        lower = text.lower()
        if lower.startswith("@attribute"):
            found += 1
            _check_attribute(text, found, pixels, number)
        elif lower == "@data":
            if found != pixels + 1:
                raise FormatError(
                    f"line {number}: expected {pixels} pixel attributes and the class before "
                    f"@DATA, found {found} attributes"
                )
            return number + 1
        elif text and not lower.startswith("@relation"):
            raise FormatError(
                f"line {number}: expected @RELATION, @ATTRIBUTE ..., @DATA, found {text[:40]!r}"
            )
    raise FormatError(f"line {number}: expected @DATA, the header goes on or ends without it")


def _check_attribute(text: str, position: int, pixels: int, number: int) -> None:
    match = _ATTRIBUTE.fullmatch(text)
    name, kind = (match[2].lower(), match[3].lower()) if match else ("", "")
    if kind in {"real", "integer"}:
        kind = "numeric"
    elif kind.startswith("{"):
        kind = "{" + ",".join(sorted(re.findall(r"[^\s,'\"{}]+", kind))) + "}"
    expected = (f"pixel{position}", "numeric") if position <= pixels else ("class", _DIGITS)
    if (name, kind) != expected:
        raise FormatError(
            f"line {number}: expected @ATTRIBUTE {' '.join(expected)}, found {text[:60]!r}"
        )
