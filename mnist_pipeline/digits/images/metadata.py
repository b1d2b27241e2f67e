"""Metadata of image files: what is not needed is left out, so that damage in it does not matter."""

import zlib

from mnist_pipeline.digits.errors import PictureError

SEVERAL = "holds several pictures: save the one that is meant"

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"

_LOWER_CASE = 0x20
"""So begin the names of chunks without which a PNG can be decoded."""

_START_OF_SCAN = 0xDA
_METADATA = {*range(0xE0, 0xF0), 0xFE}
_JFIF_EXIF_ADOBE = {0xE0, 0xE1, 0xEE}
"""By the first and the last of them decoders know the colours."""

_LEAST_SEGMENT = 16
"""Bytes of Adobe's segment; the others are longer."""


def without_metadata(data: bytes) -> bytes:
    """Return a PNG or JPEG file with pixels, their colours, and orientation alone; others as given.

    Raises PictureError if a PNG holds several pictures.
    """
    if data.startswith(_PNG):
        return b"".join([_PNG, *_chunks(data)])
    return b"".join([_JPEG, *_segments(data)]) if data.startswith(_JPEG) else data


def _chunks(data: bytes) -> list[bytes]:
    """Return the chunks of a PNG that are needed, of metadata an intact eXIf alone."""
    place, kept = len(_PNG), []
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        chunk = data[place:end]
        kind = chunk[4:8]
        if kind == b"fdAT":
            raise PictureError(SEVERAL)
        is_needed = kind == b"tRNS" or not (kind and kind[0] & _LOWER_CASE)
        if is_needed or (kind == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])):
            kept.append(chunk)
        place = end
    return kept


def _segments(data: bytes) -> list[bytes]:
    """Return a JPEG's segments that are needed, and the rest from the pixels on."""
    place, kept = len(_JPEG), []
    while data[place : place + 1] == b"\xff" and len(data) > place + 4:
        kind, end = data[place + 1], place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if kind in {_START_OF_SCAN, 0xFF}:
            break
        is_needed = kind in _JFIF_EXIF_ADOBE and end - place >= _LEAST_SEGMENT
        if is_needed or kind not in _METADATA:
            kept.append(data[place:end])
        place = end
    return [*kept, data[place:]]
