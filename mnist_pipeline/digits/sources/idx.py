"""The reader of MNIST's four IDX files, one after another in one stream.

Format: http://yann.lecun.com/exdb/mnist/ ("The IDX file format").
"""

import math
import struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.incremental.errors import FormatError

_BYTES = 0x0800
"""The magic number of unsigned bytes, to which the number of dimensions is added."""


def decode(stream: BinaryIO, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode images, their labels, more images and their labels, in this order.

    Returned are pixels, uint8 of shape (n, width * width), and labels, uint8 of shape (n,). Raises
    FormatError, which names the file that is not what was expected there.
    """
    pixels, labels = [], []
    for part in ("training", "test"):
        images = _values(stream, f"{part} images of {width} x {width} pixels", width, width)
        digits = _values(stream, f"{part} labels")
        if len(images) != len(digits):
            raise FormatError(f"{len(digits):,} {part} labels for {len(images):,} images")
        pixels.append(images.reshape(-1, width**2))
        labels.append(digits)
    if stream.read(1):
        raise FormatError("more follows after the test labels")
    every = np.concatenate(labels)
    if not len(every) or every.max() >= CLASSES:
        raise FormatError("the labels are not all from 0 to 9, or there are none")
    return np.concatenate(pixels), every


def _values(stream: BinaryIO, what: str, *size: int) -> npt.NDArray[np.uint8]:
    """Read the next file: n values of this size."""
    head = stream.read(8 + 4 * len(size))
    expected = struct.pack(f">{1 + len(size)}I", _BYTES + 1 + len(size), *size)
    if head[:4] + head[8:] != expected:
        raise FormatError(f"no IDX file of {what} where one was expected: {head.hex()}")
    count = int.from_bytes(head[4:8], "big")
    length = count * math.prod(size)
    data = stream.read(length)
    if len(data) != length:
        raise FormatError(f"the {what} end after {len(data):,} bytes, they should be {length:,}")
    return np.frombuffer(data, np.uint8).reshape(count, *size)
