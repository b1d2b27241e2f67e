"""Oriented gradients: where, and in which direction, the ink of an image changes. A transformer.

N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005; on
several grids and for MNIST: S. Maji and J. Malik, "Fast and accurate digit classification",
UCB/EECS-2009-159.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from mnist_pipeline.digits.data.shape import WIDTH
from mnist_pipeline.digits.features.batches import in_batches

_FAINT = 0.05
"""Mean gradient of a cell, in ink (0-1) over two pixels, under which it counts as nearly blank."""


class OrientedGradients(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Gradients by orientation, pooled over the cells of one or more grids.

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

    Attributes
    ----------
    n_features_in_ : int
        Number of pixels seen during `fit`.
    """

    def __init__(
        self, orientations: int = 8, cells: Sequence[int] = (7, 4), width: int = WIDTH
    ) -> None:
        self.orientations = orientations
        self.cells = cells
        self.width = width

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Note the number of columns of X, an array of shape (n, pixels).

        Raises
        ------
        ValueError
            The pixels do not make rows of `width`.
        """
        _, columns = validate_data(self, X).shape
        if columns % self.width:
            raise ValueError(f"{columns} pixels do not make rows of width={self.width}")
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the pooled gradients of X, images of shape (n, pixels) with ink 0-1.

        Returns
        -------
        float32 array of shape (n, orientations * sum of cells squared), values 0-1
            In the order of `get_feature_names_out`.

        Raises
        ------
        ValueError
            X is not a two-dimensional numeric array, or not of the width that `fit` saw.
        """
        X = validate_data(self, X, reset=False)
        return in_batches(self._pooled, np.asarray(X))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Name the columns: grid, row and column of the cell, direction in degrees."""
        degrees = [f"{360 * turn / self.orientations:g}" for turn in range(self.orientations)]
        return np.array(
            [
                f"grid{cells}_row{row}_column{column}_{direction}deg"
                for cells in self.cells
                for row in range(cells)
                for column in range(cells)
                for direction in degrees
            ],
            dtype=object,
        )

    def _pooled(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
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

    def __sklearn_tags__(self) -> Any:
        """Declare that `fit` learns nothing, and that the result is float32."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _tents(size: int, cells: int) -> npt.NDArray[np.float32]:
    """Weights of pixels in cells, shape (size, cells): tents that reach to the next centres."""
    step = size / cells
    centres = step * (np.arange(cells) + 0.5) - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(size)[:, np.newaxis] - centres) / step)
    # cells narrower than a pixel may hold none
    shares = weights / np.maximum(weights.sum(axis=0), 1e-9)
    return np.asarray(shares, np.float32)
