"""The numbers that MNIST is made of, and nothing that depends on them."""

import math

import numpy as np
import numpy.typing as npt

WIDTH = 28
"""Pixels a row of an image, and rows."""

PIXELS = WIDTH * WIDTH
"""Of an image, row by row from the top left."""

PIXEL_NAMES = [f"pixel{number}" for number in range(1, PIXELS + 1)]
"""What OpenML's table calls them."""

CLASSES = 10
"""The digits 0 to 9."""


def width_of(pixels: npt.NDArray[np.generic]) -> int:
    """Return the pixels a side of images, an array of shape (..., width * width)."""
    return math.isqrt(pixels.shape[-1])
