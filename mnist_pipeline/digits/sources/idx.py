"""The reader of MNIST's four IDX files, one after another in one stream.

Format: http://yann.lecun.com/exdb/mnist/ ("The IDX file format").
"""

import struct
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.digits.sources.archive import MAX_BYTES
from mnist_pipeline.incremental.errors import FormatError

IMAGES, LABELS = 2051, 2049
"""The magic numbers: unsigned bytes in three dimensions, and in one."""


def decode(
    stream: BufferedIOBase, width: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode images, their labels, more images and their labels, in this order.

    Returns
    -------
    pixels : uint8 array of shape (n, width * width)
    labels : uint8 array of shape (n,)

    Raises
    ------
    FormatError
        Names which of the four files is not what was expected there.
    """
    pixels, labels = [], []
    for part in ("training", "test"):
        count, *size = _header(stream, IMAGES, 3, f"{part} images")
        if size != [width, width]:
            raise FormatError(
                f"the {part} images have {size[0]} x {size[1]} pixels, not {width} x {width}"
            )
        values = _values(stream, count * width**2, f"{part} images")
        pixels.append(values.reshape(-1, width**2))
        named = _header(stream, LABELS, 1, f"{part} labels")
        if named != (count,):
            raise FormatError(f"{named[0]:,} {part} labels for {count:,} images")
        labels.append(_values(stream, count, f"{part} labels"))
    if stream.read(1):
        raise FormatError("more follows after the test labels")
    every = np.concatenate(labels)
    if not len(every) or every.max() >= CLASSES:
        raise FormatError("the labels are not all from 0 to 9, or there are none")
    return np.concatenate(pixels), every


def _header(stream: BufferedIOBase, magic: int, dimensions: int, what: str) -> tuple[int, ...]:
    head = stream.read(4 + 4 * dimensions)
    if head[:4] != struct.pack(">I", magic) or len(head) != 4 + 4 * dimensions:
        raise FormatError(f"no IDX file of {what} where one was expected: {head[:4].hex()}")
    return struct.unpack(f">{dimensions}I", head[4:])


def _values(stream: BufferedIOBase, count: int, what: str) -> npt.NDArray[np.uint8]:
    if count > MAX_BYTES:
        raise FormatError(f"the {what} claim to have {count:,} bytes: not MNIST")
    data = stream.read(count)
    if len(data) != count:
        raise FormatError(f"the {what} end after {len(data):,} of {count:,} bytes")
    return np.frombuffer(data, np.uint8)
