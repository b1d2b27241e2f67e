"""The model in service, and the standing decisions about models."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Self

from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.verdict import Verdict
from mnist_pipeline.errors import FormatError


@dataclass(frozen=True)
class Decision:
    """What was decided about one model, and why."""

    model_version: str
    promoted: bool
    why: str


@dataclass(frozen=True)
class Champion:
    """Data version of the model in service, and the decisions that stand, newest last."""

    model_version: str
    decisions: list[Decision]

    @cached_property
    def data_version(self) -> str:
        """Digest of the champion and the decisions."""
        return content_digest(asdict(self))

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Decode what `to_json` made.

        Raises
        ------
        FormatError
            The bytes are not such JSON.
        """
        try:
            content = json.loads(data)
            decisions = [Decision(**decision) for decision in content["decisions"]]
            return cls(content["model_version"], decisions)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not a champion: {error!r}") from None


def decide(model_version: str, evaluation: Evaluation) -> Champion:
    """Promote the model: an evaluation that no guard refused is all it takes so far."""
    why = f"no guard refused it; accuracy {evaluation.accuracy:.4f}"
    return Champion(model_version, [Decision(model_version, promoted=True, why=why)])


def evaluation_matches(model_version: str, evaluation: Evaluation) -> Verdict:
    """The evaluation that decides is of this very model."""
    passed = evaluation.model_version == model_version
    saw = f"the evaluation is of model {evaluation.model_version}"
    if not passed:
        saw += f", sgd_model is now {model_version}: materialize predictions and evaluation first"
    return Verdict("evaluation_matches", passed, saw)
