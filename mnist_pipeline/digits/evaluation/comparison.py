"""Comparison: variants of the model on the same validation rows, never on test rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Fitted
from mnist_pipeline.digits.evaluation.leaderboard import Entry, Leaderboard
from mnist_pipeline.digits.evaluation.metrics import wilson
from mnist_pipeline.digits.evaluation.promotion import in_order, mcnemar
from mnist_pipeline.incremental.check import CheckResult


def compare(
    candidates: Mapping[str, tuple[str, Fitted]], left_out: Mapping[str, str], train: Digits
) -> Leaderboard:
    """Rank candidates by accuracy on the rows that were held out of all their fits.

    `candidates` have, by variant, the data version and what is known of the model; `same_rows` must
    hold of them. `left_out` is why other variants are not compared. `train` are the training
    digits, with those held out.
    """
    validated = {
        name: fitted.validated for name, (_, fitted) in candidates.items() if fitted.validated
    }
    rows = next(iter(validated.values())).row_id
    labels = in_order(train.labels, train.row_id, rows)
    right = {
        name: in_order(by.prediction, by.row_id, rows) == labels for name, by in validated.items()
    }
    order = sorted(right, key=lambda name: (-int(right[name].sum()), name))
    params = {name: candidates[name][1].params for name in order}
    differing = _differing(params)
    entries = []
    for name in order:
        only_best_right, only_this_right, p_value = mcnemar(right[order[0]], right[name])
        entries.append(
            Entry(
                name,
                candidates[name][0],
                {key: params[name][key] for key in differing},
                float(right[name].mean()),
                wilson(int(right[name].sum()), len(rows)),
                only_best_right,
                only_this_right,
                p_value,
            )
        )
    return Leaderboard(entries, dict(sorted(left_out.items())), len(rows), train.data_version)


def same_rows(candidates: Mapping[str, tuple[str, Fitted]]) -> CheckResult:
    """All candidates have predictions for the same validation rows."""
    validated = {name: fitted.validated for name, (_, fitted) in candidates.items()}
    rows = [np.sort(by.row_id) for by in validated.values() if by]
    same = len(rows) == len(validated) and all(np.array_equal(rows[0], one) for one in rows)
    description = (
        f"{len(validated)} candidates on {len(rows[0]):,} validation rows"
        if same
        else "not all candidates have the same validation rows: fit them again"
    )
    return CheckResult("same_rows", same, description)


def every_variant(left_out: Mapping[str, str]) -> CheckResult:
    """All variants are compared: none is left out."""
    reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:20])
    description = (
        f"{len(left_out)} left out: {reasons}" if left_out else "all variants are compared"
    )
    return CheckResult("every_variant", not left_out, description, {"left_out": len(left_out)})


def _differing(params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys of which not all variants have the same value; the preset is only a name."""
    first, *others = params.values()
    return [
        key
        for key, value in first.items()
        if key != "preset" and any(other[key] != value for other in others)
    ]
