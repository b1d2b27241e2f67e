"""What makes digits *the* MNIST: the MD5 sums of its four original IDX files."""

import hashlib
import struct

import numpy as np
import numpy.typing as npt

TRAIN_ROWS = 60_000
ROWS = 70_000

IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the uncompressed files that LeCun, Cortes and Burges published
(http://yann.lecun.com/exdb/mnist/)."""


def idx_md5(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> dict[str, str]:
    """MD5 sums that digits of shape (n, 784) would have as MNIST's IDX files, training rows first.

    The layout is that page's: a big-endian header (magic, count, and for images 28, 28), then the
    bytes.
    """
    sums = {}
    for name, rows in {"train": slice(None, TRAIN_ROWS), "t10k": slice(TRAIN_ROWS, None)}.items():
        count = len(labels[rows])
        for file, header, body in (
            (f"{name}-images-idx3-ubyte", struct.pack(">4I", 2051, count, 28, 28), pixels[rows]),
            (f"{name}-labels-idx1-ubyte", struct.pack(">2I", 2049, count), labels[rows]),
        ):
            digest = hashlib.md5(header, usedforsecurity=False)
            digest.update(np.ascontiguousarray(body).data)
            sums[file] = digest.hexdigest()
    return sums
