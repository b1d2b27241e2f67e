"""How a step fits a model and ends: what `sgd_model` and `candidate` share."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.digits import persistence, training, validation
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.shared_features import Features
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.incremental.step import Seconds, judged
from mnist_pipeline.params import ModelParams, ValidationParams

GUARDS = [persistence.reloads_identically, validation.only_training_rows]


def fit(
    context: dg.AssetExecutionContext,
    train: Digits,
    params: ModelParams,
    by: ValidationParams,
    features: Callable[[Parts], Features | None] = lambda parts: None,
    recorded: Mapping[str, Any] | None = None,
) -> dg.MaterializeResult[TrainedModel]:
    """Fit a model on the training rows but for the validation part, and publish it.

    Parameters
    ----------
    features : callable
        Returns the features of both parts where somebody has made them, or None.
    recorded : mapping, optional
        Further metadata.
    """
    seconds = Seconds()
    if params.hold_out:
        parts = validation.hold_out(train, **by.model_dump())
    else:
        parts = validation.all_rows(train)
        context.log.info("nothing is held out of the fit: this model can never be champion")
    context.log.info(f"fitting preset {params.preset} on {len(parts.fitted):,} digits")
    known = features(parts)
    model = training.fit(params, parts, context.log.info, known)
    fit_seconds = seconds()
    measured: dict[str, Any] = {}
    if found := model.validated:
        measured = {
            "validation_accuracy": found.accuracy,
            "validation_accuracy_by_epoch": found.accuracies,
            "temperature": found.temperature,
        }
    return judged(
        context,
        model,
        [
            persistence.reloads_identically(model, train),
            validation.only_training_rows(model, train),
        ],
        {
            "preset": params.preset,
            "params": model.params,
            "n_train": len(parts.fitted),
            "n_validation": len(parts.held_out or ()),
            **measured,
            **display.fit(model, train),
            "epochs": int(model.pipeline[-1].n_iter_),
            "fit_seconds": fit_seconds,
            **(recorded or {}),
            "seconds": seconds(),
        },
    )
