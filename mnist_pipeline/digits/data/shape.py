"""The geometry of the images: square, row by row from the top left, ink from 0 to 255."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH = 28
"""Pixels a side of MNIST's images."""

CLASSES = 10
"""The digits 0 to 9."""


@dataclass(frozen=True)
class Shape:
    """The images of a source; MNIST's by default.

    `width` are the pixels a side, `box` those of the longer side of the digit itself, which is
    centred by its mass. A picture is `searched` for the digit in it, or all of it is scaled.
    """

    width: int = WIDTH
    box: int = 20
    searched: bool = True

    @property
    def pixels(self) -> int:
        """How many pixels an image has."""
        return self.width**2


def width_of(pixels: npt.NDArray[np.generic]) -> int:
    """Return the pixels a side of images, an array of shape (..., width * width)."""
    return math.isqrt(pixels.shape[-1])
