"""Inputs that nobody should be given, made from good ones, and what may come of them.

Shared by the property-based tests and by the coverage-guided `fuzzing`.
"""

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.data.table import ROWS, DigitTable
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images import files, normalize
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline_tests.conftest import HEADER
from mnist_pipeline_tests.support.photos import reference

FORMS = ["PNG", "JPEG", "WEBP", "BMP"]


def packed(arff: bytes) -> Archive:
    """Pack an ARFF as quickly as can be."""
    gzip = zlib.compressobj(0, wbits=31)
    return Archive(gzip.compress(arff) + gzip.flush(), "mnist_784.arff.gz")


def read_arff(archive: Archive) -> DigitTable | None:
    """Decode an archive; return None where it is refused as documented."""
    try:
        table = decode(archive)
    except FormatError as error:
        assert str(error).startswith(archive.filename)
        return None
    assert table.pixels.shape == (len(table.labels), Shape().pixels)
    assert table.pixels.dtype == table.labels.dtype == np.uint8
    assert table.labels.max() <= 9
    assert isinstance(table.is_mnist, bool)
    assert len(table.labels) == ROWS or not table.is_mnist
    return table


def plainly(arff: bytes) -> list[list[int]]:
    """Read the rows below `@DATA` as the ARFF format has them, in the slowest and plainest way."""
    lines = arff.split(b"\n")
    [start] = [at for at, line in enumerate(lines) if line.strip().lower().startswith(b"@data")][:1]
    rows = [line.split(b"%")[0].strip() for line in lines[start + 1 :]]
    return [[int(token.strip(b" \t\r")) for token in row.split(b",")] for row in rows if row]


def read_picture(data: bytes) -> bool:
    """Find the digit in an image file; return False where it is refused as documented."""
    try:
        digit = normalize.prepare(files.grey(data), Shape(), reference()).pixels[0]
    except PictureError as error:
        assert str(error)
        return False
    assert digit.shape == (Shape().pixels,)
    assert digit.dtype == np.uint8
    assert digit.any()
    return True


def picture(levels: npt.NDArray[np.uint8], form: str) -> bytes:
    """Encode grey levels as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, form)
    return buffer.getvalue()


def fuzz(kind: str, data: bytes) -> None:
    """Try one input of a fuzzer: its first byte says what the others are instead of."""
    choice, rest = data[:1], data[1:]
    if kind == "picture" and choice < b"\x40":
        read_picture(rest)
    elif kind == "picture":
        width = 1 + ord(choice) % 64
        levels = np.frombuffer(rest, np.uint8)[: len(rest) // width * width].reshape(-1, width)
        if len(levels):
            read_picture(picture(levels, "BMP"))
    elif choice < b"\x55":
        read_arff(packed(rest))
    elif choice < b"\xaa":
        read_arff(packed(HEADER + rest))
    else:
        read_arff(Archive(rest, "mnist_784.arff.gz"))


def resealed(png: bytes) -> bytes:
    """A PNG file whose chunks have right checksums, so that more than those is tried."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)
