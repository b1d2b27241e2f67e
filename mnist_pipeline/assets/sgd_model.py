"""The asset `sgd_model`: the fitted scikit-learn pipeline."""

import dagster as dg

from mnist_pipeline.assets import fitting
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.incremental.step import published_asset
from mnist_pipeline.params import ModelParams, ValidationParams


@published_asset(TrainedModel, group_name="model", kind="scikitlearn", blocking=fitting.GUARDS)
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
    return fitting.fit(context, train_set, model_params, validation_params)
