"""The gate: whether a new model follows the champion, and the way back. Nothing of Dagster's."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Fitted, hold_out_rows
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model import training
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import Report
from mnist_pipeline.incremental.check import CheckResult, Scalar

Outcome = Literal["promoted", "stays", "refused", "rolled back"]

IN_SERVICE: frozenset[str] = frozenset({"promoted", "stays"})
"""Outcomes after which the candidate is the champion."""


@dataclass(frozen=True)
class Ruling:
    """What was decided about a candidate, why, and which champion follows from it."""

    champion: Champion
    outcome: Outcome
    why: str
    metadata: dict[str, Scalar] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Of the candidate on its validation rows, None where they were not looked at."""
        found = self.metadata.get("validation_accuracy")
        return None if found is None else float(found)


@dataclass(frozen=True)
class Rival:
    """What the present champion says of the candidate's validation rows, and how that is known.

    `prediction` is None where it cannot be compared.
    """

    prediction: npt.NDArray[np.uint8] | None
    how: str


def decide(
    candidate: TrainedModel,
    train: Digits,
    evaluation: Evaluation,
    before: Champion,
    rival: Rival | None,
    *,
    floor: float,
    level: float,
) -> Ruling:
    """Promote the candidate if it beats the floor and is not significantly worse than the champion.

    Both are compared on the rows that were held out of the candidate's fit. The evaluation on test
    rows takes no part in that: it must be above the floor too, since labels that are mixed up in
    all training rows would not show in those held out.

    Parameters
    ----------
    candidate : TrainedModel
    train : Digits
        The training digits, with the labels of the rows held out.
    evaluation : Evaluation
        Of the candidate.
    before : Champion
    rival : Rival or None
        None where no champion is in service.
    floor : float
        Least accuracy, 0-1.
    level : float
        Chance of refusing a candidate that is as good as the champion: level of the one-sided exact
        test of Q. McNemar, Psychometrika 12 (1947), p. 153, on the digits that only one of the two
        gets right.
    """
    version = candidate.data_version
    if version == before.model_version:
        return Ruling(before, "stays", "the model is the champion already")
    if version in before.barred:
        return Ruling(before, "refused", f"the model is barred: {before.barred[version]}")
    if candidate.validated is None:
        why = (
            "the model was fitted on all training rows (preset tutorial, or hold_out = false): "
            "none are left to compare it on, so it can never be champion"
        )
        return Ruling(before, "refused", why)
    labels = in_order(train.labels, train.row_id, candidate.validated.row_id)
    right = candidate.validated.prediction == labels
    accuracy = float(right.mean())
    metadata: dict[str, Scalar] = {
        "validation_rows": len(labels),
        "validation_accuracy": accuracy,
        "floor": floor,
    }
    if accuracy < floor or evaluation.accuracy < floor:
        why = (
            f"accuracy {accuracy:.4f} on the validation rows, {evaluation.accuracy:.4f} on the "
            f"test rows: both must be at least {floor:.4f}"
        )
        return Ruling(before, "refused", why, metadata)
    promoted = Champion(version, before.barred)
    beats = (
        f"accuracy {accuracy:.4f} on {len(labels):,} validation rows beats the floor {floor:.4f}"
    )
    if rival is None:
        return Ruling(promoted, "promoted", f"{beats}; no champion was in service", metadata)
    if rival.prediction is None:
        return Ruling(promoted, "promoted", f"{beats}; not compared: {rival.how}", metadata)
    rival_right = rival.prediction == labels
    lost, won = int((rival_right & ~right).sum()), int((right & ~rival_right).sum())
    p_value = mcnemar(lost, won)
    metadata |= {
        "champion_validation_accuracy": float(rival_right.mean()),
        "only_champion_right": lost,
        "only_candidate_right": won,
        "p_value": p_value,
        "level": level,
    }
    compared = (
        f"of {len(labels):,} validation rows {won} are right only now and {lost} were right only "
        f"with the champion ({rival.how}; exact McNemar test, p = {p_value:.3g}"
    )
    if p_value < level:
        why = f"significantly worse than the champion: {compared} < {level:g})"
        return Ruling(before, "refused", why, metadata)
    why = f"{beats}; not significantly worse than the champion: {compared} >= {level:g})"
    return Ruling(promoted, "promoted", why, metadata)


def rival_of(
    candidate: TrainedModel, train: Digits, champion: Fitted, report: Report = lambda text: None
) -> Rival:
    """Say what the champion makes of the rows that were held out of the candidate's fit.

    If they were held out of its own fit too, that is what it said of them then. If it is of another
    source or split, or these rows were among those that it was fitted on, its params are fitted
    anew, on the rows that the candidate was fitted on.
    """
    if candidate.validated is None:
        return Rival(None, "nothing was held out of the candidate's fit")
    wanted = candidate.validated.row_id
    if champion.validated and champion.origin == train.origin:
        known = champion.validated.row_id
        if np.isin(wanted, known).all():
            return Rival(in_order(champion.validated.prediction, known, wanted), "as it is")
    try:
        params = ModelParams.model_validate(champion.params)
        if params == ModelParams.model_validate(candidate.params):
            return Rival(candidate.validated.prediction, "fitted anew, it is the candidate itself")
        report("the champion was fitted on other rows: fitting its params on those of today")
        refitted = training.fit(params, hold_out_rows(train, wanted), report)
    except (ValidationError, FitError) as error:
        return Rival(None, f"the champion's params cannot be fitted any more: {error}")
    if refitted.validated is None:
        return Rival(None, "nothing is held out of a fit with the champion's params")
    again = refitted.validated
    return Rival(in_order(again.prediction, again.row_id, wanted), "its params fitted anew")


def roll_back(before: Champion, to: str, undecided: str | None = None) -> Ruling:
    """Return to an earlier champion and bar the one it leaves.

    A model that nobody has decided on yet is barred too.
    """
    if to == before.model_version:
        return Ruling(before, "stays", "the model to return to is the champion already")
    barred = {version: why for version, why in before.barred.items() if version != to}
    if before.model_version:
        barred[before.model_version] = f"rolled back to {to}"
    if undecided:
        barred.setdefault(undecided, f"not decided on: it came while rolling back to {to}")
    why = f"rolled back from {before.model_version} to {to}"
    return Ruling(Champion(to, barred), "rolled back", why)


def allow(before: Champion, version: str) -> Champion:
    """Lift the bar on a model."""
    barred = {other: why for other, why in before.barred.items() if other != version}
    return Champion(before.model_version, barred)


def in_service(candidate: TrainedModel, ruling: Ruling) -> CheckResult:
    """The newest model is the champion: it was not refused, and not rolled back."""
    passed = ruling.champion.model_version == candidate.data_version
    return CheckResult("in_service", passed, f"{ruling.outcome}: {ruling.why}", ruling.metadata)


def in_order(
    values: npt.NDArray[np.uint8], row_id: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Return the values of the rows wanted, in their order; all of them must be in `row_id`."""
    order = np.argsort(row_id)
    return values[order[np.searchsorted(row_id, wanted, sorter=order)]]


def mcnemar(lost: int, won: int) -> float:
    """How likely at least so many are lost if either is as likely."""
    from scipy.stats import binomtest

    if lost + won == 0:
        return 1.0
    return float(binomtest(lost, lost + won, alternative="greater").pvalue)
