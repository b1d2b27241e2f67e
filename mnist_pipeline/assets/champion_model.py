"""The asset `champion_model`: the model in use."""

from collections.abc import Mapping

import dagster as dg

from mnist_pipeline.assets import champion_history
from mnist_pipeline.assets.display import past_models
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation import promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.evaluation.promotion import ChampionPredictions, Gate
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ChampionParams
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline.incremental.steps import Result, asset
from mnist_pipeline.incremental.store import DamagedError, Store


@asset(
    json_class("champion_model.json", Champion),
    upstream=["sgd_model", "train_set"],
    group_name="model",
    kinds={"json"},
    blocking=[validation.only_training_rows],
    warning=[promotion.is_champion],
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
    """The data version of the champion, and of the models that are blocked.

    The model that `evaluation` evaluated is promoted if it beats the floor and is not significantly
    worse than the champion on the same validation rows. The run tag `mnist_pipeline/roll_back`
    returns to an earlier champion, `mnist_pipeline/allow` unblocks a model.
    """
    instance, tags = context.instance, context.run.tags
    version = sgd_model.data_version
    rows = validation.only_training_rows(sgd_model, train_set)
    if (wanted := tags.get(champion_history.ROLL_BACK)) is not None:
        decision = champion_history.rolled_back(instance, store, wanted, version)
    elif not rows.passed:
        return Result(None, [rows])
    else:
        # the step's lock is held until this is recorded: no other decision comes in between
        before = champion_history.before(instance, tags)
        champion = _predictions(before.model_version, context, store, sgd_model, train_set)
        gate = Gate(floor_params[train_set.origin.source], champion_params.level)
        decision = gate.decide(sgd_model, train_set, evaluation, before, champion)
    context.log.info(f"{decision.outcome}: {decision.why}")
    decided = [(one.accuracy, one.outcome) for one in champion_history.decisions(instance)[::-1]]
    decided.append((decision.accuracy, decision.outcome))
    return Result(
        decision.champion,
        [rows, promotion.is_champion(sgd_model, decision)],
        {
            **decision.metadata,
            **past_models(decided),
            "decision": f"{decision.outcome}: {decision.why}",
            "candidate": version,
            "model_version": decision.champion.model_version or "none",
            champion_history.RECORD: champion_history.record(decision, version),
        },
        # a rollback is possible whatever the checks report of the newest model
        enforce=decision.outcome != "rolled back",
    )


def _predictions(
    champion: str | None,
    context: dg.AssetExecutionContext,
    store: Store,
    candidate: TrainedModel,
    train: Digits,
) -> ChampionPredictions | None:
    """Return the champion's predictions for the candidate's validation rows."""
    if champion in {None, candidate.data_version}:
        return None
    try:
        data = champion_history.read_model(context.instance, store, champion or "")
        fitted = persistence.loads_fitted(data)
    # not a store that does not answer: that fails the step
    except (DamagedError, FormatError) as error:
        return ChampionPredictions(None, f"the champion's file cannot be read: {error}")
    return promotion.champion_predictions(candidate, train, fitted, context.log.info)
