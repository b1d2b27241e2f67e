"""The metrics of predictions: accuracy, per class, the confusion matrix, and of probabilities."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.pixels import IN_MEMORY, slices
from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.digits.data.table import TRAIN_ROWS
from mnist_pipeline.digits.documents import Document
from mnist_pipeline.digits.model.pipeline import probabilities
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.incremental.check import CheckResult

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Evaluation(Document):
    """How good predictions are.

    Attributes
    ----------
    accuracy : float
        Share of right predictions, 0-1.
    accuracy_interval : [low, high]
        Wilson score interval at 95% (E. B. Wilson, JASA 22, 1927, p. 209).
    n_test : int
        Number of digits.
    per_class : dict
        For each digit as text: precision, recall, f1 and support (number of digits).
    confusion_matrix : 10 x 10 counts, [true][predicted]
    log_loss, brier, ece : float or None
        Of the probabilities, None where the model has none: the mean negative logarithm of that of
        the true class; the mean squared distance from the truth, summed over the classes, 0-2
        (G. W. Brier, Monthly Weather Review 78, 1950, p. 1); the expected calibration error in 15
        bins (C. Guo et al., ICML 2017, eq. 3).
    mnist_test : dict or None
        The same numbers, with n for n_test, over the rows that are among MNIST's own 10,000 test
        digits; None where the source is not all of MNIST. Training rows are not among them.
    model_version : str
        Data version of the model that predicted.
    predictions_version : str
        Data version of the predictions, and so of their test digits too.
    real_test : dict or None
        Of a source of deformed digits, the same numbers over those test digits that are not
        deformed, with n for n_test. None, and not in the file, for any other source.
    """

    accuracy: float
    accuracy_interval: list[float]
    n_test: int
    per_class: dict[str, dict[str, float | int]]
    confusion_matrix: list[list[int]]
    log_loss: float | None
    brier: float | None
    ece: float | None
    mnist_test: dict[str, Any] | None
    model_version: str
    predictions_version: str
    real_test: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """All numbers; `real_test` only where there is one."""
        numbers = asdict(self)
        return numbers if self.real_test else {k: v for k, v in numbers.items() if k != "real_test"}


def evaluate(predictions: Predictions) -> Evaluation:
    """Compare predictions with the labels."""
    numbers = _numbers(predictions, np.ones(len(predictions.label), bool))
    origin, row_id = predictions.origin, predictions.row_id

    def part(rows: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
        return _numbers(predictions, rows) if rows.any() else None

    return Evaluation(
        n_test=numbers.pop("n"),
        **numbers,
        mnist_test=part(row_id >= TRAIN_ROWS) if origin.is_mnist else None,
        model_version=predictions.model_version,
        predictions_version=predictions.data_version,
        real_test=part(row_id < origin.bases) if origin.bases else None,
    )


def plausible(evaluation: Evaluation, least_accuracy: float) -> CheckResult:
    """Accuracy is far from chance: below that, digits or labels are mixed up, not just hard."""
    description = f"accuracy {evaluation.accuracy:.4f}, at least {least_accuracy:.4f} is plausible"
    return CheckResult(
        "plausible",
        evaluation.accuracy >= least_accuracy,
        description,
        {"accuracy": evaluation.accuracy, "least_accuracy": least_accuracy},
    )


def _numbers(predictions: Predictions, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    digits = list(range(CLASSES))
    label, predicted = predictions.label[rows], predictions.prediction[rows]
    right = label == predicted
    measured = precision_recall_fscore_support(label, predicted, labels=digits, zero_division=0.0)
    of_class = zip(*(numbers.tolist() for numbers in measured), strict=True)
    names = ("precision", "recall", "f1", "support")
    return {
        "n": len(right),
        "accuracy": float(right.mean()),
        "accuracy_interval": wilson(int(right.sum()), len(right)),
        "per_class": {
            str(digit): dict(zip(names, numbers, strict=True))
            for digit, numbers in enumerate(of_class)
        },
        "confusion_matrix": confusion_matrix(label, predicted, labels=digits).tolist(),
        **_of_probabilities(predictions, rows),
    }


def _of_probabilities(
    predictions: Predictions, rows: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    from sklearn.metrics import brier_score_loss, log_loss

    confidence, temperature = predictions.confidence, predictions.temperature
    if confidence is None or temperature is None:
        return {"log_loss": None, "brier": None, "ece": None}
    places, losses = np.flatnonzero(rows), np.zeros(2)
    # all at once but for the largest test sets: they need some 400 bytes a row
    for part in slices(len(places), IN_MEMORY):
        label = predictions.label[places[part]]
        given = probabilities(predictions.scores[places[part]], temperature)
        both = [loss(label, given, labels=range(CLASSES)) for loss in (log_loss, brier_score_loss)]
        losses += len(label) / len(places) * np.array(both)
    return {
        "log_loss": float(losses[0]),
        "brier": float(losses[1]),
        "ece": calibration_bins(confidence[rows], predictions.right[rows]).expected_error,
    }


@dataclass(frozen=True)
class CalibrationBins:
    """Digits in bins of equal width by confidence: how many, how confident and how often right.

    The arrays have shape (bins,): int64, and float64 means over the bin, 0 for an empty bin.
    """

    count: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def expected_error(self) -> float:
        """How far confidence is from accuracy, averaged over the digits (C. Guo et al., eq. 3)."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(gaps @ self.count / self.count.sum())


def calibration_bins(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = 15
) -> CalibrationBins:
    """Sort digits into bins by confidence, 0-1; a bin holds its upper edge, not its lower one.

    `confidence` (float64) and `right` (bool) have shape (n,).
    """
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    some = np.maximum(count, 1)
    return CalibrationBins(
        count,
        np.bincount(which, confidence, bins) / some,
        np.bincount(which, right, bins) / some,
    )


def wilson(right: int, count: int) -> list[float]:
    """Return Wilson's score interval of a share at 95%, as [low, high]."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]
