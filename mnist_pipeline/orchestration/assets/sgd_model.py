"""The asset `sgd_model`: the fitted scikit-learn pipeline."""

import dagster as dg

from mnist_pipeline.digits import classifier, persistence
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset
from mnist_pipeline.params import Params


@published_asset(
    TrainedModel,
    group_name="model",
    kind="scikitlearn",
    blocking=[persistence.reloads_identically],
)
def sgd_model(
    context: dg.AssetExecutionContext, train_set: Digits, params: dg.ResourceParam[Params]
) -> dg.MaterializeResult:
    """A scikit-learn pipeline ending in `SGDClassifier`, fitted with `[model]` of params.toml."""
    seconds = Seconds()
    context.log.info(f"fitting preset {params.model.preset} on {len(train_set):,} digits")
    model = classifier.fit(params.model, train_set, context.log.info)
    fit_seconds = seconds()
    return judged(
        context,
        model,
        [persistence.reloads_identically(model, train_set)],
        {
            "preset": params.model.preset,
            "params": model.params,
            "n_train": len(train_set),
            "epochs": int(model.pipeline[-1].n_iter_),
            "fit_seconds": fit_seconds,
            "seconds": seconds(),
        },
    )
