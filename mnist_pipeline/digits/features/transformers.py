"""The transformers from pixels to features: scikit-learn estimators that learn nothing in `fit`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from mnist_pipeline.digits.data.shape import WIDTH
from mnist_pipeline.digits.features.batches import in_batches

if TYPE_CHECKING:
    from sklearn.utils import Tags

_FLAT = 1e-3
"""Vertical variance, in square pixels, below which the slant is taken as 0."""

_FAINT = 0.05
"""Mean gradient of a cell, in ink (0-1) over two pixels, below which it counts as nearly blank."""


class PixelTransformer(TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the transformers: images of shape (n, pixels) to float32 features, in batches."""

    width: int = 1
    """Pixels a row; the number of pixels must be a multiple."""

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Record the number of columns of X, an array of shape (n, pixels).

        Raises ValueError where they do not make rows of `width`.
        """
        _, columns = validate_data(self, X).shape
        if columns % self.width:
            raise ValueError(f"{columns} pixels do not make rows of width={self.width}")
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the features of images, float32 of shape (n, features).

        Raises ValueError where X is not a two-dimensional numeric array, or has another number of
        columns than in `fit`.
        """
        X = validate_data(self, X, reset=False)
        return in_batches(self._features, np.asarray(X))

    @abstractmethod
    def _features(self, pixels: npt.NDArray[np.number]) -> npt.NDArray[np.float32]: ...

    def __sklearn_tags__(self) -> "Tags":
        """Declare that `transform` needs no `fit`, and float32 as the result."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class PixelScaler(PixelTransformer):
    """Pixels from 0-255 to 0-1.

    `MinMaxScaler` would scale by the training set's own extremes, pixel by pixel; here 255 is 1
    everywhere.
    """

    def _features(self, pixels: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        return scaled(pixels)


class Deskewer(PixelTransformer):
    """Centre each image by its mass and shear it until its vertical axis is upright.

    Ink 0-255 becomes ink 0-1. MNIST's own authors deskewed it so: Y. LeCun et al., "Gradient-based
    learning applied to document recognition", Proc. IEEE 86 (1998), sec. III.A.

    Parameters
    ----------
    width : int
        Pixels a row; the number of columns of X must be a multiple.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width

    def _features(self, pixels: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        return deskew(pixels, width=self.width)


class OrientedGradients(PixelTransformer):
    """Gradients by orientation, pooled over the cells of one or more grids: values 0-1 of ink 0-1.

    Columns are in the order of grids, rows of cells, columns of cells, orientations.

    The gradient of each pixel (central differences) is projected on each orientation and rectified;
    each orientation is averaged over the cells, which overlap by half; the orientations of a cell
    are divided by their norm (plus a little, so that blank cells stay dark), and the square root is
    taken, which makes Euclidean distances Hellinger distances (R. Arandjelovic and A. Zisserman,
    CVPR 2012).

    Parameters
    ----------
    orientations : int
        Directions around the full circle.
    cells : sequence of int
        For each grid, cells a side.
    width : int
        Pixels a row; the number of columns of X must be a multiple.

    Notes
    -----
    N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005; on
    several grids and for MNIST: S. Maji and J. Malik, "Fast and accurate digit classification",
    UCB/EECS-2009-159.
    """

    def __init__(
        self, orientations: int = 8, cells: Sequence[int] = (7, 4), width: int = WIDTH
    ) -> None:
        self.orientations = orientations
        self.cells = cells
        self.width = width

    def _features(self, pixels: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        count = len(pixels)
        images = pixels.astype(np.float32, copy=False).reshape(count, -1, self.width)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        grids = [
            (_tents(images.shape[1], cells), _tents(images.shape[2], cells)) for cells in self.cells
        ]
        pooled = [
            np.empty((count, cells, cells, self.orientations), np.float32) for cells in self.cells
        ]
        for turn in range(self.orientations):
            angle = 2 * np.pi * turn / self.orientations
            response = right * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))
            np.maximum(response, 0, out=response)
            for (rows, columns), into in zip(grids, pooled, strict=True):
                into[..., turn] = rows.T @ (response @ columns)
        for values in pooled:
            values /= np.linalg.norm(values, axis=-1, keepdims=True) + np.float32(_FAINT)
            np.sqrt(values, out=values)
        return np.concatenate([values.reshape(count, -1) for values in pooled], axis=1)


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

    @classmethod
    def draw(
        cls, rng: np.random.Generator, count: int, *, rotation: float, zoom: float, shift: float
    ) -> Self:
        """Draw a turn, a zoom in height and in width, and a shift for each of `count` digits.

        At the most they turn by `rotation` degrees to either side, change height and width by the
        fraction `zoom`, and move `shift` pixels in each direction.
        """
        turn = np.deg2rad(rng.uniform(-rotation, rotation, count))
        turns = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        zooms = 1 + rng.uniform(-zoom, zoom, (count, 1, 2))
        return cls(turns.transpose(2, 0, 1) * zooms, rng.uniform(-shift, shift, (count, 2)))


def scaled(pixels: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
    """Return pixels 0-255 as 0-1, float32 of the same shape."""
    ink: npt.NDArray[np.float32] = np.divide(pixels, np.float32(255), dtype=np.float32)
    return ink


def deskew(
    pixels: npt.NDArray[np.number], *, width: int = WIDTH, distortion: Distortion | None = None
) -> npt.NDArray[np.float32]:
    """Centre images and set them upright, with one interpolation (bilinear).

    Parameters
    ----------
    pixels : array of shape (n, pixels), ink 0-255
    width : int
    distortion : Distortion, optional
        Applied to the upright digits, in the same interpolation.

    Returns
    -------
    float32 array of the same shape, ink 0-1
    """
    from scipy.ndimage import affine_transform

    images = scaled(pixels).reshape(len(pixels), -1, width)
    centre, slant = _moments(images)
    matrix = np.tile(np.eye(2), (len(images), 1, 1))
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
    """Return the centre of mass (row, column) and the slant (columns a row) of each image."""
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


def _tents(size: int, cells: int) -> npt.NDArray[np.float32]:
    """Return the weights of pixels in cells, shape (size, cells): tents up to the next centres."""
    step = size / cells
    centres = step * (np.arange(cells) + 0.5) - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(size)[:, np.newaxis] - centres) / step)
    # cells narrower than a pixel may hold none
    shares = weights / np.maximum(weights.sum(axis=0), 1e-9)
    return np.asarray(shares, np.float32)
