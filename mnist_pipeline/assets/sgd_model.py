"""The asset `sgd_model`: the fitted scikit-learn pipeline."""

import time
from typing import Any

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.model import persistence, training
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ModelParams, ValidationParams
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.steps import Result, asset

CHECKS = [persistence.reloads_identically, validation.only_training_rows]


def codec(filename: str) -> Codec[TrainedModel]:
    """Return the codec of a fitted model."""
    return Codec(filename, persistence.dumps, lambda data, name: persistence.loads(data))


@asset(codec("sgd_model.skops"), group_name="model", kinds={"scikitlearn"}, blocking=CHECKS)
def sgd_model(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    model_params: dg.ResourceParam[ModelParams],
    validation_params: dg.ResourceParam[ValidationParams],
) -> Result:
    """The fitted scikit-learn pipeline.

    It ends in `SGDClassifier` and has the params of `[model]` in params.toml. It is fitted on the
    training rows but for the validation part, which ends the fit, calibrates its probabilities and
    compares it with the champion.
    """
    return fit(context, train_set, model_params, validation_params)


def fit(
    context: dg.AssetExecutionContext, train: Digits, params: ModelParams, by: ValidationParams
) -> Result:
    """Fit a model on the training rows but for the validation part."""
    start = time.perf_counter()
    if params.hold_out:
        parts = validation.hold_out(train, **by.model_dump())
    else:
        parts = validation.all_rows(train)
        context.log.info("nothing is held out of the fit: this model can never be champion")
    context.log.info(f"fitting preset {params.preset} on {len(parts.fitted):,} digits")
    model = training.fit(params, parts, context.log.info)
    fit_seconds = round(time.perf_counter() - start, 3)
    measured: dict[str, Any] = {}
    if found := model.validated:
        measured = {
            "validation_accuracy": found.accuracy,
            "validation_accuracy_by_epoch": found.accuracies,
            "temperature": found.temperature,
        }
    return Result(
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
        },
    )
