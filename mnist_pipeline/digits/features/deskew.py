"""Deskewing: digits are centred and set upright by their moments, as a transformer. No gradients.

Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998),
sec. III.A: MNIST's own authors deskewed it so.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import validate_data

from mnist_pipeline.digits.data.shape import WIDTH
from mnist_pipeline.digits.features.batches import in_batches

_FLAT = 1e-3
"""Vertical variance, in square pixels, under which a slant means nothing."""


@dataclass(frozen=True)
class Distortion:
    """A small affine map for each of n digits, about the middle of the upright digit.

    Attributes
    ----------
    matrix : float64 array of shape (n, 2, 2)
    shift : float64 array of shape (n, 2)
        In pixels, down and to the right.
    """

    matrix: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


class Deskewer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Centre each image by its mass and shear it until its vertical axis is upright.

    Parameters
    ----------
    width : int
        Pixels a row; the number of columns of X must be a multiple.

    Attributes
    ----------
    n_features_in_ : int
        Number of pixels seen during `fit`.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Note the number of columns of X, an array of shape (n, pixels).

        Raises
        ------
        ValueError
            The pixels do not make rows of `width`.
        """
        _, columns = validate_data(self, X, ensure_non_negative=True).shape
        if columns % self.width:
            raise ValueError(f"{columns} pixels do not make rows of width={self.width}")
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return upright images with ink from 0 to 1, float32 of the shape of X (ink 0-255).

        Raises
        ------
        ValueError
            X is not a two-dimensional numeric array, has negative ink, or is not of the width that
            `fit` saw.
        """
        X = validate_data(self, X, reset=False, ensure_non_negative=True)
        return in_batches(partial(deskew, width=self.width), np.asarray(X))

    def __sklearn_tags__(self) -> Any:
        """Declare that no `fit` is needed before `transform`, ink >= 0, and float32 as result."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def deskew(
    pixels: npt.NDArray[Any], *, width: int = WIDTH, distortion: Distortion | None = None
) -> npt.NDArray[np.float32]:
    """Centre images and set them upright, with one interpolation (bilinear).

    Parameters
    ----------
    pixels : array of shape (n, pixels), ink 0-255
    width : int
        Pixels a row.
    distortion : Distortion, optional
        Applied to the upright digits, in the same interpolation.

    Returns
    -------
    float32 array of the same shape, ink 0-1
    """
    from scipy.ndimage import affine_transform

    images = np.divide(pixels, np.float32(255), dtype=np.float32).reshape(len(pixels), -1, width)
    centre, slant = _moments(images)
    matrix = np.zeros((len(images), 2, 2))
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
    matrix[:, 1, 0] = slant
    middle = (np.array(images.shape[1:]) - 1) / 2
    # where each pixel of the result comes from: matrix @ pixel + offset
    if distortion is None:
        offset = centre - matrix @ middle
    else:
        from_shifted = middle + distortion.shift
        matrix = matrix @ distortion.matrix
        offset = centre - (matrix @ from_shifted[:, :, np.newaxis])[:, :, 0]
    upright = np.empty_like(images)
    for row, image in enumerate(images):
        affine_transform(image, matrix[row], offset[row], output=upright[row], order=1)
    flat: npt.NDArray[np.float32] = upright.reshape(len(images), -1)
    return flat


def _moments(
    images: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centre of mass (row, column) and slant (columns a row) of each image; none has none."""
    row, column = (np.arange(size, dtype=np.float64) for size in images.shape[1:])
    by_row = images.sum(axis=2, dtype=np.float64)
    by_column = images.sum(axis=1, dtype=np.float64)
    mass = by_row.sum(axis=1)
    blank = mass == 0
    mass[blank] = 1.0
    row_mean, column_mean = by_row @ row / mass, by_column @ column / mass
    variance = by_row @ row**2 / mass - row_mean**2
    covariance = images.astype(np.float64) @ column @ row / mass - row_mean * column_mean
    slant = np.where(variance > _FLAT, covariance / np.maximum(variance, _FLAT), 0.0)
    centre = np.stack([row_mean, column_mean], axis=1)
    centre[blank] = (np.array(images.shape[1:]) - 1) / 2
    return centre, slant
