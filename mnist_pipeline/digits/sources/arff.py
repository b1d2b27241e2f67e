"""The ARFF header of mnist_784: checked, then stepped over. `csv_rows` reads the rows below it.

Format: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/
"""

import codecs
import re
from io import BufferedIOBase

from mnist_pipeline.digits.sources.csv_rows import MAX_LINE
from mnist_pipeline.incremental.errors import FormatError

_RELATION = re.compile(r"@relation\s+\S.*", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""@attribute\s+(['"]?)(\w+)\1(?:\s+|(?=\{))(\S.*)""", re.IGNORECASE)
_MAX_HEADER_LINES = 100_000


def skip_header(stream: BufferedIOBase, pixels: int) -> int:
    """Check the header and leave the stream at the first line after `@DATA`.

    Expected are `pixels` numeric attributes, `pixel1` ... `pixel784` in this order,
    then `class` with the values 0 to 9. Comments, blank lines, quoted names and any letter case are
    allowed.

    Returns
    -------
    The number (from 1) of the first line after `@DATA`.

    Raises
    ------
    FormatError
        Names the line and what was expected there.
    """
    found, relation = 0, False
    for number in range(1, _MAX_HEADER_LINES):
        line = stream.readline(MAX_LINE + 1)
        if not line or len(line) > MAX_LINE:
            break
        text_bytes = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if not text_bytes.lower().startswith(b"@relation"):
            text_bytes = text_bytes.partition(b"%")[0].rstrip()
        if not text_bytes:
            continue
        try:
            text = text_bytes.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"line {number}: the ARFF header is not UTF-8 text") from None
        if _RELATION.fullmatch(text) and not relation and not found:
            relation = True
        elif text.lower().startswith("@attribute") and relation:
            _check_attribute(text, found, pixels, number)
            found += 1
        elif text.lower() == "@data" and relation:
            if found != pixels + 1:
                raise FormatError(
                    f"line {number}: expected {pixels} pixel attributes and the class before "
                    f"@DATA, found {found} attributes"
                )
            return number + 1
        else:
            raise FormatError(
                f"line {number}: expected @RELATION, @ATTRIBUTE ..., @DATA, found {text[:40]!r}"
            )
    raise FormatError(f"line {number}: expected @DATA, the header goes on or ends without it")


def _check_attribute(text: str, index: int, pixels: int, number: int) -> None:
    name, kind = f"pixel{index + 1}", "numeric"
    if index >= pixels:
        name, kind = "class", "{0,1,2,3,4,5,6,7,8,9}"
    match = _ATTRIBUTE.fullmatch(text)
    found = match[3].lower() if match and match[2].lower() == name else ""
    if found in {"real", "numeric", "integer"}:
        found = "numeric"
    elif values := re.fullmatch(r"\{(.*)\}", found):
        plain = [re.sub(r"""^(['"])(.)\1$""", r"\2", one.strip()) for one in values[1].split(",")]
        found = "{" + ",".join(sorted(plain)) + "}"
    if found != kind:
        raise FormatError(f"line {number}: expected @ATTRIBUTE {name} {kind}, found {text[:60]!r}")
