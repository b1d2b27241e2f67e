"""Neighbours: the digits of a set that look most like a given one."""

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.features.batches import in_batches


def nearest(digits: Digits, pixels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.intp]:
    """Return the places of the `count` digits nearest to an image, nearest first.

    Near is the Euclidean distance between pixels. Of images of another size none is near.
    """
    if digits.pixels.shape[1] != len(pixels):
        return np.empty(0, np.intp)
    ink = pixels.astype(np.float32)

    def distances(part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = np.linalg.norm(part - ink, axis=1, keepdims=True)
        return found

    return np.argsort(in_batches(distances, digits.pixels)[:, 0], kind="stable")[:count]
