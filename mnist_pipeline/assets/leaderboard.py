"""The asset `leaderboard`: the candidates of now, compared."""

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.assets.experiments import CANDIDATE, GONE, Experiments, of_now
from mnist_pipeline.digits import comparison, persistence
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.incremental import partitions
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.step import Seconds, hear, judged, published_asset
from mnist_pipeline.incremental.store import Store


@published_asset(
    Leaderboard,
    group_name="experiments",
    kind="json",
    blocking=[comparison.same_rows],
    warning=[comparison.every_variant],
    deps=[CANDIDATE],
)
def leaderboard(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    experiments: dg.ResourceParam[Experiments],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """The variants by accuracy on the same validation rows, with intervals and paired tests.

    Left out, with the reason, is what was not fitted, or with other params, training digits or code
    than those of now.
    """
    seconds = Seconds()
    made = partitions.read_by(context, CANDIDATE)
    found, left_out = of_now(experiments, context.instance, store, made, train_set.data_version)
    candidates = {}
    for name, (recorded, artifact) in found.items():
        try:
            fitted = persistence.loads_fitted(store.read(artifact))
            if fitted.validated:
                candidates[name] = recorded.data_version or "", fitted
            else:
                left_out[name] = "nothing was held out of its fit to compare it on"
        except (StoreError, FormatError) as error:
            context.log.warning(f"candidate {name}: {error}")
            left_out[name] = GONE
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise dg.Failure(f"there is nothing to compare. {reasons}", allow_retries=False)
    verdicts = [comparison.same_rows(candidates), comparison.every_variant(left_out)]
    hear(context, verdicts)
    compared = comparison.compare(candidates, left_out, train_set)
    spent = {
        name: {key: recorded.metadata[key].value for key in ("epochs", "fit_seconds")}
        for name, (recorded, _) in found.items()
    }
    return judged(
        context,
        compared,
        verdicts,
        {
            "best": compared.entries[0].variant,
            "best_accuracy": compared.entries[0].accuracy,
            "compared": len(compared.entries),
            "left_out": compared.left_out,
            **display.leaderboard(compared, spent),
            "versions_read": {
                name: {"data_version": one.data_version, "storage_id": one.storage_id}
                for name, (one, _) in found.items()
            },
            "seconds": seconds(),
        },
    )
