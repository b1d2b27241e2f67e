"""Whitening: coordinates in which stochastic gradient descent needs few epochs, and the way back.

Features that vary together make a long narrow valley of the loss, which gradient descent crosses
in many small steps. Rotated to their principal components and scaled to like variance they do not
(Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998, sec. 4.3). A
linear classifier fitted in these coordinates is one in the old coordinates too.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Whitening:
    """An affine map of features, k numbers, to a constant 1 and the whitened features.

    Attributes
    ----------
    mean : float32 array of shape (k,)
    matrix : float32 array of shape (k, components)
        As many components as features, or as there were rows if those were fewer; scaled so that
        whitened features have a mean squared norm of 1.
    """

    mean: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: npt.NDArray[np.float32], smoothing: float) -> Self:
        """Find the map for features, float32 of shape (n, k).

        `smoothing` is added to the variance of each component: those that vary far less are left
        as small as they are.
        """
        from sklearn.decomposition import PCA

        pca = PCA(svd_solver="covariance_eigh").fit(features)
        variance = pca.explained_variance_
        scale = np.sqrt((variance + smoothing) * (variance / (variance + smoothing)).sum())
        matrix = pca.components_.T / scale
        return cls(pca.mean_.astype(np.float32), np.ascontiguousarray(matrix, np.float32))

    def transform(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the constant and the whitened features, float32 of shape (n, 1 + components)."""
        return self.centred(features @ self.matrix)

    def centred(self, rotated: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return `transform` of features that were multiplied with the matrix already.

        The constant is the intercept: `SGDClassifier` confuses averaged intercepts with plain ones
        from one call of `partial_fit` to the next (scikit-learn 1.9, `_fit_multiclass`).
        """
        whitened = np.empty((len(rotated), 1 + rotated.shape[1]), np.float32)
        whitened[:, 0] = 1.0
        np.subtract(rotated, self.mean @ self.matrix, out=whitened[:, 1:])
        return whitened

    def undo(
        self, coef: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Return coef_ and intercept_ that do on features what `coef` does on whitened ones.

        Parameters
        ----------
        coef : array of shape (classes, 1 + components)

        Returns
        -------
        coef_ : float32 array of shape (classes, k)
        intercept_ : float64 array of shape (classes,)
        """
        back = coef[:, 1:].astype(np.float64) @ self.matrix.T.astype(np.float64)
        return back.astype(np.float32), coef[:, 0] - back @ self.mean
