"""The numbers of an evaluation: accuracy with its interval, per class, and the confusion matrix."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from mnist_pipeline.digits import mnist
from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.digits.verdict import Verdict
from mnist_pipeline.errors import FormatError

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Evaluation:
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
        None while the model has no probabilities.
    mnist_test : dict or None
        accuracy and n over those rows that are of MNIST's own 10,000 test digits; None where the
        source is not all of MNIST.
    model_version : str
        Data version of the model that predicted.
    """

    accuracy: float
    accuracy_interval: list[float]
    n_test: int
    per_class: dict[str, dict[str, float | int]]
    confusion_matrix: list[list[int]]
    log_loss: float | None
    brier: float | None
    ece: float | None
    mnist_test: dict[str, float | int] | None
    model_version: str

    @cached_property
    def data_version(self) -> str:
        """Digest of all numbers."""
        return content_digest(asdict(self))

    def to_json(self) -> bytes:
        """Encode as JSON, keys in the order of the attributes."""
        return json.dumps(asdict(self), indent=2, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Decode what `to_json` made.

        Raises
        ------
        FormatError
            The bytes are not such JSON.
        """
        try:
            return cls(**json.loads(data))
        except (TypeError, ValueError) as error:
            raise FormatError(f"not an evaluation: {error}") from None


def evaluate(predictions: Predictions) -> Evaluation:
    """Compare predictions with the labels."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    digits = list(range(CLASSES))
    label, predicted = predictions.label, predictions.prediction
    right = label == predicted
    scores = precision_recall_fscore_support(label, predicted, labels=digits, zero_division=0.0)
    per_class: dict[str, dict[str, float | int]] = {
        str(digit): {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for digit, precision, recall, f1, support in zip(digits, *scores, strict=True)
    }
    return Evaluation(
        accuracy=float(right.mean()),
        accuracy_interval=_wilson(int(right.sum()), len(right)),
        n_test=len(right),
        per_class=per_class,
        confusion_matrix=confusion_matrix(label, predicted, labels=digits).tolist(),
        log_loss=None,
        brier=None,
        ece=None,
        mnist_test=_mnist_test(predictions),
        model_version=predictions.model_version,
    )


def above_floor(evaluation: Evaluation, floor: float) -> Verdict:
    """Accuracy is at least the floor of the source: below it something is broken, not just poor."""
    saw = f"accuracy {evaluation.accuracy:.4f}, floor {floor:.4f}"
    facts: dict[str, Any] = {"accuracy": evaluation.accuracy, "floor": floor}
    return Verdict("above_floor", evaluation.accuracy >= floor, saw, facts)


def _mnist_test(predictions: Predictions) -> dict[str, float | int] | None:
    if not predictions.origin.is_mnist:
        return None
    own = predictions.row_id >= mnist.TRAIN_ROWS
    right = predictions.label[own] == predictions.prediction[own]
    return {"accuracy": float(right.mean()), "n": int(own.sum())} if own.any() else None


def _wilson(right: int, count: int) -> list[float]:
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]
