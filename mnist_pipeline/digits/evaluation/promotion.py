"""The gate: whether a new model replaces the champion, and how a rollback changes that."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Fitted, Validated, digest_of_rows, fitted_rows
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.incremental.check import CheckResult, Scalar

Outcome = Literal["promoted", "stays", "refused", "rolled back"]


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
    """The champion's predictions for the validation rows of a candidate that it was not fitted on.

    `row_id` is int32, `prediction` uint8, both of shape (m,).
    """

    row_id: npt.NDArray[np.int32]
    prediction: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NotComparable:
    """A champion that a candidate cannot be compared with, and why."""

    why: str


@dataclass(frozen=True)
class _Result:
    passed: bool
    why: str
    numbers: dict[str, Scalar]


@dataclass(frozen=True)
class Gate:
    """What a candidate must pass to be promoted.

    `floor` is the least accuracy, 0-1. `level` is the chance of refusing a candidate that is as
    good as the champion: the level of the one-sided exact test of Q. McNemar, Psychometrika 12
    (1947), p. 153, on the digits that only one of the two gets right. `must_be_mnist` is whether
    the candidate's source promises all of MNIST, `accepted` whether a person accepted the candidate
    although it cannot be compared, or its digits are not what the source promises.
    """

    floor: float
    level: float
    must_be_mnist: bool = False
    accepted: bool = False

    def decide(
        self,
        candidate: Fitted,
        train: Digits,
        evaluation: Evaluation,
        before: Champion,
        champion: ChampionPredictions | NotComparable | None,
    ) -> Decision:
        """Promote the candidate if it beats the floor and is not significantly worse.

        It is compared with `champion` (None before the first one) on rows that neither was fitted
        on. Where that is not possible, and where the digits are not what their source promises, it
        is promoted only if a person accepted it. Its evaluation on test rows must be above the
        floor too: labels that are mixed up in all training rows (`train`, with those held out) do
        not show in those held out.
        """
        version = evaluation.model_version
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
        results = [self._above_floor(candidate.validated, train, evaluation)]
        if isinstance(champion, ChampionPredictions):
            results.append(self._not_worse(candidate.validated, train, champion))
        numbers = {name: number for one in results for name, number in one.numbers.items()}
        failed = next((one.why for one in results if not one.passed), None)
        doubt = self._doubt(candidate, champion)
        if doubt and not (failed or self.accepted):
            failed = (
                f"{doubt.rstrip('.')}. If it is to be the champion all the same: "
                f"`mnist-pipeline champion --accept {version}`"
            )
        if failed:
            return Decision(before, "refused", failed, numbers)
        reasons = [one.why for one in results]
        reasons += ["there was no champion"] if champion is None else []
        reasons += [f"accepted by a person, although {doubt}"] if doubt else []
        return Decision(Champion(version, before.blocked), "promoted", "; ".join(reasons), numbers)

    def _above_floor(self, by: Validated, train: Digits, evaluation: Evaluation) -> _Result:
        labels = in_order(train.labels, train.row_id, by.row_id)
        accuracy = float((by.prediction == labels).mean())
        passed = accuracy >= self.floor and evaluation.accuracy >= self.floor
        why = (
            f"accuracy {accuracy:.4f} on {len(labels):,} validation rows beats the floor "
            f"{self.floor:.4f}"
        )
        if not passed:
            why = (
                f"accuracy {accuracy:.4f} on the validation rows, {evaluation.accuracy:.4f} on the "
                f"test rows: both must be at least {self.floor:.4f}"
            )
        numbers = {"validation_rows": len(labels), "validation_accuracy": accuracy}
        return _Result(passed, why, {**numbers, "floor": self.floor})

    def _doubt(
        self, candidate: Fitted, champion: ChampionPredictions | NotComparable | None
    ) -> str | None:
        """Return why only a person can promote the candidate, or None."""
        origin = candidate.origin
        if self.must_be_mnist and not origin.is_mnist:
            return (
                f"the model was fitted on {origin.described()}, but the source {origin.source} "
                "promises all of MNIST"
            )
        if not isinstance(champion, ChampionPredictions):
            return champion.why if champion else None
        # of so few, a candidate that is wrong on all would pass
        if 0.5 ** len(champion.row_id) >= self.level:
            return f"only {len(champion.row_id)} validation rows are new to the champion, too few"
        return None

    def _not_worse(self, by: Validated, train: Digits, champion: ChampionPredictions) -> _Result:
        rows = champion.row_id
        labels = in_order(train.labels, train.row_id, rows)
        right = in_order(by.prediction, by.row_id, rows) == labels
        champion_right = champion.prediction == labels
        lost, won, p_value = mcnemar(champion_right, right)
        passed = p_value >= self.level
        worse, relation = ("not ", ">=") if passed else ("", "<")
        why = (
            f"{worse}significantly worse than the champion: of {len(rows):,} rows that neither was "
            f"fitted on, {won} are right only now and {lost} were right only with the champion "
            f"(exact McNemar test, p = {p_value:.3g} {relation} {self.level:g})"
        )
        numbers: dict[str, Scalar] = {
            "compared_rows": len(rows),
            "champion_validation_accuracy": float(champion_right.mean()),
            "only_champion_right": lost,
            "only_candidate_right": won,
            "p_value": p_value,
            "level": self.level,
        }
        return _Result(passed, why, numbers)


def champion_predictions(
    candidate: Validated,
    train: Digits,
    champion: Fitted,
    open_champion: Callable[[], TrainedModel],
) -> ChampionPredictions | NotComparable:
    """Return the champion's predictions for validation rows of the candidate that are new to it.

    If they were held out of its own fit, its predictions from then are used; else its pipeline is
    opened. Row ids mean the same digits only in the same table: a champion that was fitted on other
    digits is not comparable. `train` are the candidate's training digits. Raises as
    `open_champion`.
    """
    if champion.origin.table != train.origin.table:
        return NotComparable(
            f"the model was fitted on {train.origin.described()}, the champion on other digits: "
            f"{champion.origin.described()}"
        )
    together = train.origin.together
    known = fitted_rows(champion, champion.origin.draw()[0])
    if digest_of_rows(known) != champion.rows:
        return NotComparable("it is not known which rows the champion was fitted on")
    rows = candidate.row_id[~np.isin(together(candidate.row_id), together(known))]
    if not len(rows):
        return NotComparable("the champion was fitted on all validation rows of the model")
    by = champion.validated
    if by and np.isin(rows, by.row_id).all():
        return ChampionPredictions(rows, in_order(by.prediction, by.row_id, rows))
    places = np.flatnonzero(np.isin(train.row_id, rows))
    prediction = open_champion().scores(train.pixels[places]).argmax(axis=1).astype(np.uint8)
    return ChampionPredictions(train.row_id[places], prediction)


def roll_back(
    before: Champion, to: str, rejected: str | None = None, undecided: str | None = None
) -> Decision:
    """Return to an earlier champion and block the one it replaces.

    Blocked are, too, the champion when the rollback was asked for (`rejected`), where another was
    promoted meanwhile, and a model that was not decided on yet (`undecided`).
    """
    replaced = [one for one in (rejected, before.model_version) if one and one != to]
    if not replaced:
        return Decision(before, "stays", "the model to return to is the champion already")
    blocked = {version: why for version, why in before.blocked.items() if version != to}
    blocked |= dict.fromkeys(replaced, f"rolled back to {to}")
    if undecided:
        blocked.setdefault(undecided, f"not decided on before the rollback to {to}")
    why = f"rolled back from {replaced[-1]} to {to}"
    return Decision(Champion(to, blocked), "rolled back", why)


def allow(before: Champion, version: str) -> Champion:
    """Unblock a model."""
    blocked = {other: why for other, why in before.blocked.items() if other != version}
    return Champion(before.model_version, blocked)


def is_champion(candidate: str, decision: Decision) -> CheckResult:
    """The newest model is the champion: it was not refused, and not rolled back."""
    passed = decision.champion.model_version == candidate
    description = f"{decision.outcome}: {decision.why}"
    return CheckResult("is_champion", passed, description, decision.metadata)


def in_order(
    values: npt.NDArray[np.uint8], row_id: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Return the values of the wanted rows, in their order; all of them must be in `row_id`."""
    order = np.argsort(row_id)
    return values[order[np.searchsorted(row_id, wanted, sorter=order)]]


def mcnemar(
    reference: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]
) -> tuple[int, int, float]:
    """Return how many only `reference` has right, how many only `other`, and the p-value.

    The test is exact and one-sided: how likely at least so many are lost by chance.
    """
    from scipy.stats import binomtest

    lost, won = int((reference & ~other).sum()), int((other & ~reference).sum())
    if lost + won == 0:
        return 0, 0, 1.0
    return lost, won, float(binomtest(lost, lost + won, alternative="greater").pvalue)
