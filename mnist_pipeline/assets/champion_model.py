"""The asset `champion_model`: the model in use."""

from collections.abc import Mapping
from functools import partial

import dagster as dg

from mnist_pipeline.assets import champion_history
from mnist_pipeline.assets.display import past_models
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation import promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ChampionParams
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.steps import Result, asset
from mnist_pipeline.incremental.store import Store


@asset(
    json_class("champion_model.json", Champion),
    upstream=["sgd_model", "train_set"],
    group_name="model",
    kinds={"json"},
    blocking=[validation.only_training_rows],
    warning=[promotion.in_service],
    # it depends on its own past
    reuse=False,
)
def champion_model(
    context: dg.AssetExecutionContext,
    evaluation: Evaluation,
    sgd_model: TrainedModel,
    train_set: Digits,
    floor_params: dg.ResourceParam[Mapping[str, float]],
    champion_params: dg.ResourceParam[ChampionParams],
    store: dg.ResourceParam[Store],
) -> Result:
    """The data version of the model in use, and of those that are blocked from it.

    The model that `evaluation` is of is promoted if it beats the floor and is not significantly
    worse than the champion on the same validation rows. The tags `mnist_pipeline/roll_back` and
    `mnist_pipeline/allow` of a run return to an earlier champion, and unblock a model.
    """
    floor = floor_params[train_set.origin.source]
    decide = partial(
        promotion.decide, sgd_model, train_set, evaluation, floor=floor, level=champion_params.level
    )
    version = sgd_model.data_version
    rows = validation.only_training_rows(sgd_model, train_set)
    ruling = champion_history.rolled_back(context, store, version)
    if ruling is None:
        if not rows.passed:
            return Result(None, [rows])
        ruling = champion_history.rule(context, store, sgd_model, train_set, decide)
    context.log.info(f"{ruling.outcome}: {ruling.why}")
    decided = [
        (one.accuracy, one.outcome) for one in champion_history.rulings(context.instance)[::-1]
    ]
    decided.append((ruling.accuracy, ruling.outcome))
    return Result(
        ruling.champion,
        [rows, promotion.in_service(sgd_model, ruling)],
        {
            **ruling.metadata,
            **past_models(decided),
            "decision": f"{ruling.outcome}: {ruling.why}",
            "candidate": version,
            "model_version": ruling.champion.model_version or "none",
            champion_history.RULING: champion_history.recorded(ruling, version),
        },
        # a rollback is possible whatever the checks say of the newest model
        enforce=ruling.outcome != "rolled back",
    )
