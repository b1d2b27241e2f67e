"""Augmentation: small random distortions of the training digits, another one each epoch."""

import numpy as np

from mnist_pipeline.digits.features.deskew import Distortion


def draw_distortions(
    rng: np.random.Generator, count: int, *, rotation: float, zoom: float, shift: float
) -> Distortion:
    """Draw a turn, a zoom in height and in width, and a shift for each of `count` digits.

    Parameters
    ----------
    rng : numpy.random.Generator
    rotation : float
        Largest turn, in degrees, to either side.
    zoom : float
        Largest change of height and of width, as a fraction.
    shift : float
        Largest shift, in pixels, in each direction.
    """
    turn = np.deg2rad(rng.uniform(-rotation, rotation, count))
    rotations = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    zooms = 1 + rng.uniform(-zoom, zoom, (count, 1, 2))
    return Distortion(rotations.transpose(2, 0, 1) * zooms, rng.uniform(-shift, shift, (count, 2)))
