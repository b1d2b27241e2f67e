"""Calibration: scores become probabilities by one temperature, chosen on held-out rows.

C. Guo et al., "On calibration of modern neural networks", ICML 2017, sec. 4.2. The order of the
scores stays, so no prediction changes. scikit-learn's `CalibratedClassifierCV` does the same from
1.8 on, but from scores that it computes itself, in float32, and it keeps the temperature private.
"""

import numpy as np
import numpy.typing as npt

_BOUNDS = (-10.0, 10.0)
"""Of the logarithm of the temperature, for scores with a standard deviation of 1."""


def temperature(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.uint8]) -> float:
    """Return the temperature with the least log loss.

    Parameters
    ----------
    scores : array of shape (n, 10)
    labels : array of shape (n,)
        Of the same, held-out digits.
    """
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    spread = float(scores.std()) or 1.0

    def loss(log_temperature: float) -> float:
        given = probabilities(scores, spread * float(np.exp(log_temperature)))
        return float(log_loss(labels, given, labels=np.arange(scores.shape[1])))

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded")
    return spread * float(np.exp(found.x))


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return the probability of each class, float64 of shape (n, 10): softmax(scores / T)."""
    from scipy.special import softmax

    given: npt.NDArray[np.float64] = softmax(scores.astype(np.float64) / temperature, axis=1)
    return given
