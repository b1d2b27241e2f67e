"""Pixels as features: scaled, and nothing else."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import validate_data


class PixelScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pixels from 0-255 to 0-1 in float32.

    `MinMaxScaler` would scale by the training set's own extremes, pixel by pixel; here 255 is 1
    everywhere. Stateless: `fit` only notes the number of pixels.

    Attributes
    ----------
    n_features_in_ : int
        Number of pixels seen during `fit`.
    """

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Note the number of columns of X, an array of shape (n, pixels)."""
        validate_data(self, X)
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return X / 255, float32 of the same shape.

        Raises
        ------
        ValueError
            X is not a two-dimensional numeric array, or not of the width that `fit` saw.
        """
        X = validate_data(self, X, reset=False)
        return np.divide(X, np.float32(255), dtype=np.float32)

    def __sklearn_tags__(self) -> Any:
        """Declare that no `fit` is needed before `transform`, and that the result is float32."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
