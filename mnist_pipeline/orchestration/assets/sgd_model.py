"""The asset `sgd_model`: the fitted scikit-learn pipeline."""

from typing import Any

import dagster as dg

from mnist_pipeline.digits import persistence, training, validation
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.orchestration import presentation
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset
from mnist_pipeline.params import ModelParams, ValidationParams


@published_asset(
    TrainedModel,
    group_name="model",
    kind="scikitlearn",
    blocking=[persistence.reloads_identically, validation.only_training_rows],
)
def sgd_model(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    model_params: dg.ResourceParam[ModelParams],
    validation_params: dg.ResourceParam[ValidationParams],
) -> dg.MaterializeResult:
    """A scikit-learn pipeline ending in `SGDClassifier`, fitted with `[model]` of params.toml.

    Fitted on the training rows but for the validation part, which ends the fit, calibrates its
    probabilities and compares it with the champion.
    """
    seconds = Seconds()
    if model_params.hold_out:
        parts = validation.hold_out(train_set, **validation_params.model_dump())
    else:
        parts = validation.Parts(train_set, None)
        context.log.info("nothing is held out of the fit: this model can never be champion")
    context.log.info(f"fitting preset {model_params.preset} on {len(parts.fitted):,} digits")
    model = training.fit(model_params, parts, context.log.info)
    fit_seconds = seconds()
    measured: dict[str, Any] = {}
    if by := model.validated:
        measured = {
            "validation_accuracy": by.accuracy,
            "validation_accuracy_by_epoch": by.accuracies,
            "temperature": by.temperature,
        }
    return judged(
        context,
        model,
        [
            persistence.reloads_identically(model, train_set),
            validation.only_training_rows(model, train_set),
        ],
        {
            "preset": model_params.preset,
            "params": model.params,
            "n_train": len(parts.fitted),
            "n_validation": len(parts.held_out or ()),
            **measured,
            **presentation.fit(model, train_set),
            "epochs": int(model.pipeline[-1].n_iter_),
            "fit_seconds": fit_seconds,
            "seconds": seconds(),
        },
    )
