"""The asset `sgd_model`: the fitted scikit-learn pipeline."""

import dagster as dg

from mnist_pipeline.digits import classifier, persistence
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset
from mnist_pipeline.params import ModelParams


@published_asset(
    TrainedModel,
    group_name="model",
    kind="scikitlearn",
    blocking=[persistence.reloads_identically],
)
def sgd_model(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    model_params: dg.ResourceParam[ModelParams],
) -> dg.MaterializeResult:
    """A scikit-learn pipeline ending in `SGDClassifier`, fitted with `[model]` of params.toml."""
    seconds = Seconds()
    context.log.info(f"fitting preset {model_params.preset} on {len(train_set):,} digits")
    model = classifier.fit(model_params, train_set, context.log.info)
    fit_seconds = seconds()
    return judged(
        context,
        model,
        [persistence.reloads_identically(model, train_set)],
        {
            "preset": model_params.preset,
            "params": model.params,
            "n_train": len(train_set),
            "epochs": int(model.pipeline[-1].n_iter_),
            "fit_seconds": fit_seconds,
            "seconds": seconds(),
        },
    )
