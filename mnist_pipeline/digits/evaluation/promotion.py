"""The gate: whether a new model replaces the champion, and how a rollback changes that."""

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
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.incremental.check import CheckResult, Scalar

Outcome = Literal["promoted", "stays", "refused", "rolled back"]

ACCEPTED: frozenset[str] = frozenset({"promoted", "stays"})
"""Outcomes after which the candidate is the champion."""


@dataclass(frozen=True)
class Decision:
    """What was decided about a candidate, why, and which champion follows from it."""

    champion: Champion
    outcome: Outcome
    why: str
    metadata: dict[str, Scalar] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Of the candidate on its validation rows, None where they were not compared."""
        found = self.metadata.get("validation_accuracy")
        return None if found is None else float(found)


@dataclass(frozen=True)
class ChampionPredictions:
    """The champion's predictions for the candidate's validation rows, and how they were obtained.

    `prediction` is uint8 of shape (n,), in the order of these rows; None if they cannot be had.
    """

    prediction: npt.NDArray[np.uint8] | None
    how: str


@dataclass(frozen=True)
class Gate:
    """What a candidate must pass to be promoted.

    Attributes
    ----------
    floor : float
        Least accuracy, 0-1.
    level : float
        Chance of refusing a candidate that is as good as the champion: level of the one-sided exact
        test of Q. McNemar, Psychometrika 12 (1947), p. 153, on the digits that only one of the two
        gets right.
    """

    floor: float
    level: float

    def decide(
        self,
        candidate: TrainedModel,
        train: Digits,
        evaluation: Evaluation,
        before: Champion,
        champion: ChampionPredictions | None,
    ) -> Decision:
        """Promote the candidate unless it is below the floor or significantly worse.

        It is compared with the champion on the rows held out of the candidate's fit. The evaluation
        on test rows must be above the floor too: labels that are mixed up in all training rows do
        not show in those held out.

        Parameters
        ----------
        candidate : TrainedModel
        train : Digits
            The training digits, with the labels of the rows held out.
        evaluation : Evaluation
            Of the candidate.
        before : Champion
        champion : ChampionPredictions or None
            None where there is no champion.
        """
        version = candidate.data_version
        if version == before.model_version:
            return Decision(before, "stays", "the model is the champion already")
        if version in before.blocked:
            return Decision(before, "refused", f"the model is blocked: {before.blocked[version]}")
        if candidate.validated is None:
            why = (
                "the model was fitted on all training rows (preset tutorial, or hold_out = false): "
                "none are left to compare it on, so it can never be champion"
            )
            return Decision(before, "refused", why)
        labels = in_order(train.labels, train.row_id, candidate.validated.row_id)
        right = candidate.validated.prediction == labels
        accuracy = float(right.mean())
        metadata: dict[str, Scalar] = {
            "validation_rows": len(labels),
            "validation_accuracy": accuracy,
            "floor": self.floor,
        }
        if not (accuracy >= self.floor and evaluation.accuracy >= self.floor):
            why = (
                f"accuracy {accuracy:.4f} on the validation rows, {evaluation.accuracy:.4f} on the "
                f"test rows: both must be at least {self.floor:.4f}"
            )
            return Decision(before, "refused", why, metadata)
        is_worse, compared, numbers = self._compare(labels, right, champion)
        if is_worse:
            return Decision(before, "refused", compared, metadata | numbers)
        why = (
            f"accuracy {accuracy:.4f} on {len(labels):,} validation rows beats the floor "
            f"{self.floor:.4f}; {compared}"
        )
        return Decision(Champion(version, before.blocked), "promoted", why, metadata | numbers)

    def _compare(
        self,
        labels: npt.NDArray[np.uint8],
        right: npt.NDArray[np.bool_],
        champion: ChampionPredictions | None,
    ) -> tuple[bool, str, dict[str, Scalar]]:
        """Return whether the candidate is significantly worse, in words, and in numbers."""
        if champion is None:
            return False, "there was no champion", {}
        if champion.prediction is None:
            return False, f"not compared: {champion.how}", {}
        champion_right = champion.prediction == labels
        lost, won = int((champion_right & ~right).sum()), int((right & ~champion_right).sum())
        p_value = mcnemar(lost, won)
        is_worse = p_value < self.level
        worse, relation = ("", "<") if is_worse else ("not ", ">=")
        words = (
            f"{worse}significantly worse than the champion: of {len(labels):,} validation rows "
            f"{won} are right only now and {lost} were right only with the champion "
            f"({champion.how}; exact McNemar test, p = {p_value:.3g} {relation} {self.level:g})"
        )
        numbers: dict[str, Scalar] = {
            "champion_validation_accuracy": float(champion_right.mean()),
            "only_champion_right": lost,
            "only_candidate_right": won,
            "p_value": p_value,
            "level": self.level,
        }
        return is_worse, words, numbers


def champion_predictions(
    candidate: TrainedModel, train: Digits, champion: Fitted, progress: Progress = silent
) -> ChampionPredictions:
    """Return the champion's predictions for the rows that were held out of the candidate's fit.

    If they were held out of its own fit too, its predictions from then are used. If it is of
    another source or split, or was fitted on some of these rows, its params are fitted again, on
    the rows that the candidate was fitted on.
    """
    if candidate.validated is None:
        return ChampionPredictions(None, "nothing was held out of the candidate's fit")
    wanted = candidate.validated.row_id
    if champion.validated and champion.origin == train.origin:
        known = champion.validated.row_id
        if np.isin(wanted, known).all():
            found = in_order(champion.validated.prediction, known, wanted)
            return ChampionPredictions(found, "as it is")
    try:
        params = ModelParams.model_validate(champion.params)
        if params == ModelParams.model_validate(candidate.params):
            how = "its params fitted again are the candidate's"
            return ChampionPredictions(candidate.validated.prediction, how)
        progress("the champion was fitted on other rows: its params are fitted on the current ones")
        again = training.fit(params, hold_out_rows(train, wanted), progress).validated
    except (ValidationError, FitError) as error:
        why = f"the champion's params cannot be fitted any more: {error}"
        return ChampionPredictions(None, why)
    if again is None:
        return ChampionPredictions(None, "nothing is held out of a fit with the champion's params")
    found = in_order(again.prediction, again.row_id, wanted)
    return ChampionPredictions(found, "its params fitted again")


def roll_back(before: Champion, to: str, undecided: str | None = None) -> Decision:
    """Return to an earlier champion and block the one it replaces.

    A model that was not decided on yet (`undecided`) is blocked too.
    """
    if to == before.model_version:
        return Decision(before, "stays", "the model to return to is the champion already")
    blocked = {version: why for version, why in before.blocked.items() if version != to}
    if before.model_version:
        blocked[before.model_version] = f"rolled back to {to}"
    if undecided:
        blocked.setdefault(undecided, f"not decided on before the rollback to {to}")
    why = f"rolled back from {before.model_version} to {to}"
    return Decision(Champion(to, blocked), "rolled back", why)


def allow(before: Champion, version: str) -> Champion:
    """Unblock a model."""
    blocked = {other: why for other, why in before.blocked.items() if other != version}
    return Champion(before.model_version, blocked)


def is_champion(candidate: TrainedModel, decision: Decision) -> CheckResult:
    """The newest model is the champion: it was not refused, and not rolled back."""
    passed = decision.champion.model_version == candidate.data_version
    description = f"{decision.outcome}: {decision.why}"
    return CheckResult("is_champion", passed, description, decision.metadata)


def in_order(
    values: npt.NDArray[np.uint8], row_id: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Return the values of the wanted rows, in their order; all of them must be in `row_id`."""
    order = np.argsort(row_id)
    return values[order[np.searchsorted(row_id, wanted, sorter=order)]]


def mcnemar(lost: int, won: int) -> float:
    """Return the one-sided p-value: how likely at least `lost` of all are lost by chance."""
    from scipy.stats import binomtest

    if lost + won == 0:
        return 1.0
    return float(binomtest(lost, lost + won, alternative="greater").pvalue)
