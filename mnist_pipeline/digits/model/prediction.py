"""Predictions: a fitted model's answer for every digit of a split, and their Parquet file."""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.arrow import to_arrow, to_numpy
from mnist_pipeline.digits.data.dataset import Digits, Origin, facts_of, with_metadata
from mnist_pipeline.digits.data.pixels import CHUNK, slices
from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.digits.model.pipeline import TrainedModel, probabilities
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError

SCORES = [f"score_{digit}" for digit in range(CLASSES)]
COLUMNS = {"row_id": "int32", "label": "uint8", "prediction": "uint8", "confidence": "float"}
COLUMNS |= dict.fromkeys(SCORES, "float")
"""Column names and Arrow types of the file, in order (`float` is Arrow's name for float32)."""


@dataclass(frozen=True)
class Predictions:
    """One row per digit, in the order of the split, `origin`.

    `row_id` (int32), `label` and `prediction` (uint8) have shape (n,); `scores`, float32 of shape
    (n, 10), are signed distances to each class's hyperplane (`decision_function`), the largest of
    which wins. They are divided by the `temperature` to be probabilities, None where the model has
    none. `model_version` and `test_version` are the data versions of the model and of the digits.
    """

    row_id: npt.NDArray[np.int32]
    label: npt.NDArray[np.uint8]
    prediction: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    origin: Origin
    model_version: str
    test_version: str
    temperature: float | None

    @cached_property
    def confidence(self) -> npt.NDArray[np.float64] | None:
        """Probability of each prediction, float64 of shape (n,); None where the model has none."""
        if self.temperature is None:
            return None
        parts = slices(len(self.label))
        given = [probabilities(self.scores[rows], self.temperature).max(axis=1) for rows in parts]
        return np.concatenate(given)

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which predictions are the label, of shape (n,)."""
        return np.equal(self.label, self.prediction)

    @cached_property
    def data_version(self) -> str:
        """Digest of all rows, the split, the temperature, the versions of model and digits."""
        return content_digest(
            self.row_id,
            self.label,
            self.prediction,
            self.scores,
            {"origin": self.origin.facts, "temperature": self.temperature},
            self.model_version,
            self.test_version,
        )

    def to_parquet(self) -> bytes:
        """Encode as Parquet; `confidence` is the probability of the prediction, or null."""
        import pyarrow as pa
        import pyarrow.parquet

        confidence = pa.nulls(len(self.row_id), pa.float32())
        if self.confidence is not None:
            confidence = to_arrow(self.confidence.astype(np.float32))
        facts = (to_arrow(values) for values in (self.row_id, self.label, self.prediction))
        scores = map(to_arrow, np.ascontiguousarray(self.scores.T))
        table = with_metadata(
            pa.table([*facts, confidence, *scores], names=list(COLUMNS)),
            origin=self.origin.facts,
            model_version=self.model_version,
            test_version=self.test_version,
            temperature=self.temperature,
        )
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd", row_group_size=CHUNK)
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Self:
        """Decode what `to_parquet` made.

        Raises FormatError where it is not Parquet, or has other columns.
        """
        import pyarrow as pa
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"not a Parquet file: {error}") from None
        facts = facts_of(table.schema, COLUMNS)
        names = "row_id", "label", "prediction"
        columns: dict[str, Any] = {name: to_numpy(table[name]) for name in names}
        scores = np.stack([to_numpy(table[name]) for name in SCORES], axis=1)
        facts["origin"] = Origin(**facts["origin"])
        return cls(**columns, scores=scores, **facts)


def predict(model: TrainedModel, digits: Digits) -> Predictions:
    """Score every digit; the class with the largest score is the prediction."""
    scores = model.scores(digits.pixels)
    prediction = model.pipeline.classes_[scores.argmax(axis=1)].astype(np.uint8)
    return Predictions(
        digits.row_id,
        digits.labels,
        prediction,
        scores.astype(np.float32),
        digits.origin,
        model.data_version,
        digits.data_version,
        model.validated.temperature if model.validated else None,
    )


def unseen_in_training(model: TrainedModel, digits: Digits) -> CheckResult:
    """Model and test digits come from the same split of the same table, so no row is in both."""
    passed = model.origin == digits.origin
    if passed:
        description = "the model was fitted on the other part of the same split"
    else:
        different = model.origin.facts.items() - digits.origin.facts.items()
        description = (
            f"the model was fitted on another split ({', '.join(sorted(k for k, _ in different))} "
            "differ), so test digits may be training digits: materialize train_set and sgd_model, "
            "or test_set, so that both come from the same download and params"
        )
    return CheckResult("unseen_in_training", passed, description)
