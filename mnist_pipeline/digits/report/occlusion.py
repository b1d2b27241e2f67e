"""Occlusion: which parts of an image a model's score of a digit hangs on, whatever its features."""

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import CLASSES, PIXELS, WIDTH
from mnist_pipeline.digits.model.pipeline import TrainedModel

_PATCH = 7
_STEP = 3


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
    float64 array of shape (10, 784)
        Mean fall of the score where a pixel was covered; below 0 where it rose. 0 for a class that
        is not among the digits.

    Notes
    -----
    M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014,
    sec. 4.2; patches of 7 x 7 pixels, every 3 pixels, are made paper.
    """
    corners = range(0, WIDTH - _PATCH + 1, _STEP)
    squares = np.zeros((len(corners) ** 2, WIDTH, WIDTH), bool)
    for mask, (top, left) in zip(squares, np.ndindex(len(corners), len(corners)), strict=True):
        mask[corners[top] : corners[top] + _PATCH, corners[left] : corners[left] + _PATCH] = True
    masks = squares.reshape(len(squares), PIXELS)
    covered = masks.sum(axis=0)
    maps = np.zeros((CLASSES, PIXELS))
    for digit in range(CLASSES):
        images = digits.pixels[np.flatnonzero(digits.labels == digit)[:per_class]]
        if len(images) == 0:
            continue
        hidden = np.where(masks, 0, images[:, np.newaxis]).reshape(-1, PIXELS)
        before = model.scores(images)[:, digit, np.newaxis]
        after = model.scores(hidden)[:, digit].reshape(len(images), len(masks))
        maps[digit] = (before - after).mean(axis=0) @ masks / np.maximum(covered, 1)
    return maps
