"""The decoded source: all of its digits in its own row order; and what makes them *the* MNIST."""

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.pixels import is_large, slices, stacked
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.incremental.digest import content_digest

TRAIN_ROWS = 60_000
ROWS = 70_000

IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 sums of the uncompressed files that LeCun, Cortes and Burges published
(http://yann.lecun.com/exdb/mnist/)."""


@dataclass(frozen=True)
class DigitTable:
    """All digits of a source. `row_id` is the position in it, from 0.

    `pixels`, uint8 of shape (m, pixels), are square images, row by row from the top left; 0 is
    background, 255 full ink. They are of all n rows, or of the first ones, `bases`, that the others
    are made from (None where none is made). `labels`, uint8 of shape (n,), are the digits 0-9 that
    they show. `promises_mnist` is whether the source promises all of MNIST.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    source: str
    promises_mnist: bool = field(default=False, kw_only=True)
    bases: int | None = field(default=None, kw_only=True)

    @cached_property
    def digest(self) -> str:
        """Digest of all that the pixels and labels depend on, in row order."""
        return content_digest(self.pixels, self.labels)

    @cached_property
    def is_mnist(self) -> bool:
        """Whether these are all 70,000 digits of MNIST, in its own order, by its MD5 sums."""
        return len(self.pixels) == ROWS and idx_md5(self.pixels, self.labels) == IDX_MD5

    def images(
        self, row_id: npt.NDArray[np.integer], progress: Progress = silent
    ) -> npt.NDArray[np.uint8]:
        """Return the pixels of these rows, mapped from a file where the table is large."""
        chunks = (self.chunk(row_id[rows]) for rows in slices(len(row_id)))
        return stacked(chunks, len(row_id), large=is_large(len(self.labels)), progress=progress)

    def chunk(self, row_id: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Return the pixels of some rows, in memory."""
        pixels: npt.NDArray[np.uint8] = self.pixels[row_id]
        return pixels


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
