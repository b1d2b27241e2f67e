"""The validation part: training rows held out of the fit, and the results of a model on them.

Params, the end of a fit, calibration and the champion are chosen by these rows, never by test rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError

MOST_HELD_OUT = 50_000
"""Most rows of a validation part (or one a group): their features are in memory."""


@dataclass(frozen=True)
class Parts:
    """The training rows in two parts: fitted, and held out of the fit if any are.

    `train_version` is the data version of all training digits, of both parts together.
    """

    fitted: Digits
    held_out: Digits | None
    train_version: str


@dataclass(frozen=True)
class Validated:
    """The results of a model on the held-out rows.

    `row_id` (int32) and `prediction` (uint8) have shape (n,). `accuracies` are the `accuracy`, 0-1,
    after each epoch; empty for a fit by `SGDClassifier`'s own rule. Scores are divided by the
    `temperature` to be probabilities.
    """

    row_id: npt.NDArray[np.int32]
    prediction: npt.NDArray[np.uint8]
    accuracy: float
    accuracies: list[float]
    temperature: float


@dataclass(frozen=True)
class Fitted:
    """The facts about a fitted model without its pipeline.

    `origin` is the split that it was fitted on, `train_version` the data version of its training
    digits, with those held out of the fit, and `rows` a digest of the row ids that were fitted.
    `validated` is None where nothing was held out: such a model has no probabilities and cannot be
    compared with others.
    """

    origin: Origin
    train_version: str
    params: dict[str, Any]
    rows: str
    validated: Validated | None


def all_rows(train: Digits) -> Parts:
    """Hold nothing out of the fit."""
    return Parts(train, None, train.data_version)


def hold_out(train: Digits, *, size: float, random_state: int) -> Parts:
    """Hold a stratified part of the training rows out of the fit.

    `size` is the fraction of the rows, rounded up, `random_state` the seed of `train_test_split`.
    Rows that must not be parted are held out together: then it is the fraction of the groups. Of
    more than `MOST_HELD_OUT` rows only the first, and one of each group, are the validation part;
    the others are in neither part.

    Raises FormatError where there are too few digits of some class for a part with all of them.
    """
    from sklearn.model_selection import train_test_split

    group = train.origin.together(train.row_id)
    if group is train.row_id:
        # each row is a group of its own, drawn by its place in the training set
        group = np.arange(len(train))
    groups, first = np.unique(group, return_index=True)
    try:
        _, held_out = train_test_split(
            groups, test_size=size, random_state=random_state, stratify=train.labels[first]
        )
    except ValueError as error:
        raise FormatError(f"no validation part can be held out: {error}") from None
    is_held_out = np.isin(group, held_out)
    places = np.flatnonzero(is_held_out)
    # one of each group at least: which rows were held out with them follows from that
    _, one_each = np.unique(group[places], return_index=True)
    chosen = np.union1d(places[one_each], places[:MOST_HELD_OUT])
    fitted = train.chosen(np.flatnonzero(~is_held_out))
    return Parts(fitted, train.chosen(chosen), train.data_version)


def fitted_rows(model: Fitted, train_rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the ids of those training rows that a model was fitted on: all but those held out.

    Rows of the same groups as those held out were not fitted either.
    """
    if model.validated is None:
        return train_rows
    together = model.origin.together
    return train_rows[~np.isin(together(train_rows), together(model.validated.row_id))]


def only_training_rows(model: Fitted, train: Digits) -> CheckResult:
    """A model was fitted, and chosen by rows held out, on rows of train_set alone.

    The fitted rows, compared by their digest, are all but those held out and those of their groups.
    Checks of train_set make sure that it has no test row.
    """
    held_out = model.validated.row_id if model.validated else np.empty(0, np.int32)
    fitted = fitted_rows(model, train.row_id)
    foreign = len(np.setdiff1d(held_out, train.row_id))
    same_split = model.origin == train.origin
    as_recorded = model.rows == digest_of_rows(fitted)
    description = (
        f"{len(fitted):,} rows fitted and {len(held_out):,} held out to choose by; of those held "
        f"out, {foreign:,} are not in train_set"
    )
    if not same_split:
        description = "the model is of another split than train_set: materialize sgd_model"
    elif not as_recorded:
        description += "; the model was fitted on other rows than these"
    return CheckResult(
        "only_training_rows",
        same_split and as_recorded and foreign == 0,
        description,
        {"fitted": len(fitted), "held_out": len(held_out), "foreign": foreign},
    )


def digest_of_rows(row_id: npt.NDArray[np.int32]) -> str:
    """Digest row ids, whatever their order."""
    return content_digest(np.sort(row_id))
