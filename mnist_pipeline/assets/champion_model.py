"""The asset `champion_model`: which model is in service."""

from functools import partial

import dagster as dg

from mnist_pipeline.assets import champion_history
from mnist_pipeline.assets.display import past_models
from mnist_pipeline.digits import gate, validation
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.incremental.step import Seconds, hear, judged, published_asset
from mnist_pipeline.incremental.store import Store
from mnist_pipeline.params import ChampionParams, FloorParams


@published_asset(
    Champion,
    group_name="model",
    kind="json",
    blocking=[validation.only_training_rows],
    warning=[gate.in_service],
)
def champion_model(
    context: dg.AssetExecutionContext,
    sgd_model: TrainedModel,
    train_set: Digits,
    evaluation: Evaluation,
    floor_params: dg.ResourceParam[FloorParams],
    champion_params: dg.ResourceParam[ChampionParams],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """The data version of the model in service, and of those that are barred from it.

    A new model is promoted if it beats the floor and is not significantly worse than the champion
    on the same validation rows. The tags `mnist_pipeline/roll_back` and `mnist_pipeline/allow` of a
    run return to an earlier champion, and lift the bar on the one that was left.
    """
    seconds = Seconds()
    floor: float = getattr(floor_params, train_set.origin.source)
    decide = partial(
        gate.decide, sgd_model, train_set, evaluation, floor=floor, level=champion_params.level
    )
    version = sgd_model.data_version
    guards = [validation.only_training_rows(sgd_model, train_set)]
    ruling = champion_history.rolled_back(context, store, version)
    if ruling is None:
        hear(context, guards)
        ruling = champion_history.rule(context, store, sgd_model, train_set, decide)
    context.log.info(f"{ruling.outcome}: {ruling.why}")
    decided = [
        (one.accuracy, one.outcome) for one in champion_history.rulings(context.instance)[::-1]
    ]
    decided.append((ruling.accuracy, ruling.outcome))
    return judged(
        context,
        ruling.champion,
        [*guards, gate.in_service(sgd_model, ruling)],
        {
            **ruling.metadata,
            **past_models(decided),
            "decision": f"{ruling.outcome}: {ruling.why}",
            "candidate": version,
            "model_version": ruling.champion.model_version or "none",
            champion_history.RULING: champion_history.recorded(ruling, version),
            "seconds": seconds(),
        },
        # the way back is open whatever is thought of the newest model
        only_told=ruling.outcome == "rolled back",
    )
