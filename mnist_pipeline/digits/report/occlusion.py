"""Occlusion: which parts of an image a model's score of a digit hangs on, whatever its features."""

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.model.pipeline import TrainedModel


def patch(width: int) -> int:
    """Return the pixels a side of what is covered, in images of so many: a quarter."""
    return max(1, width // 4)


def sensitivity(
    model: TrainedModel, digits: Digits, per_class: int = 10
) -> npt.NDArray[np.float64]:
    """Blank each patch of some digits and see how far the score of their own class falls.

    Parameters
    ----------
    model : TrainedModel
    digits : Digits
        The first `per_class` of each class are looked at.
    per_class : int

    Returns
    -------
    float64 array of shape (10, pixels)
        Mean fall of the score where a pixel was covered; below 0 where it rose. 0 for a class that
        is not among the digits.

    Notes
    -----
    M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014,
    sec. 4.2; patches, which overlap by half and more, are made paper.
    """
    width, pixels = width_of(digits.pixels), digits.pixels.shape[1]
    side = patch(width)
    corners = range(0, width - side + 1, max(1, side // 2))
    squares = np.zeros((len(corners) ** 2, width, width), bool)
    for mask, (top, left) in zip(squares, np.ndindex(len(corners), len(corners)), strict=True):
        mask[corners[top] : corners[top] + side, corners[left] : corners[left] + side] = True
    masks = squares.reshape(len(squares), pixels)
    covered = masks.sum(axis=0)
    maps = np.zeros((CLASSES, pixels))
    for digit in range(CLASSES):
        images = digits.pixels[np.flatnonzero(digits.labels == digit)[:per_class]]
        if len(images) == 0:
            continue
        hidden = np.where(masks, 0, images[:, np.newaxis]).reshape(-1, pixels)
        before = model.scores(images)[:, digit, np.newaxis]
        after = model.scores(hidden)[:, digit].reshape(len(images), len(masks))
        maps[digit] = (before - after).mean(axis=0) @ masks / np.maximum(covered, 1)
    return maps
