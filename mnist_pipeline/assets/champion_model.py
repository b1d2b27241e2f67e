"""The asset `champion_model`: the model in use."""

from collections.abc import Mapping

import dagster as dg
from pydantic import ValidationError

from mnist_pipeline.assets import champion_history
from mnist_pipeline.assets.display import past_models
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Fitted
from mnist_pipeline.digits.errors import FitError, IncompatibleModelError
from mnist_pipeline.digits.evaluation import promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.evaluation.promotion import ChampionPredictions, Gate, NotComparable
from mnist_pipeline.digits.model import persistence, training
from mnist_pipeline.digits.params import ChampionParams, ModelParams, ValidationParams
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental import history
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.engine import COMPUTED_WITH, Engine
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline.incremental.steps import Result, asset
from mnist_pipeline.incremental.store import DamagedError


@asset(
    json_class("champion_model.json", Champion),
    upstream=["sgd_model", "train_set"],
    # to open the pipeline takes a second, and a model that is the champion already needs none
    decode={"sgd_model": lambda data, name: persistence.loads_fitted(data)},
    group_name="release",
    kinds={"json"},
    blocking=[validation.only_training_rows],
    warning=[promotion.is_champion],
    # it depends on its own past
    reuse=False,
    points_at=champion_history.model_of_champion,
)
def champion_model(
    context: dg.AssetExecutionContext,
    evaluation: Evaluation,
    sgd_model: Fitted,
    train_set: Digits,
    floor_params: dg.ResourceParam[Mapping[str, float]],
    champion_params: dg.ResourceParam[ChampionParams],
    io_manager: dg.ResourceParam[Engine],
) -> Result:
    """The model in use, and the models that are blocked.

    The model that `evaluation` evaluated is promoted if it beats the floor and is not significantly
    worse than the champion on validation rows that are new to both. The run tag
    `mnist_pipeline/roll_back` returns to an earlier champion, `mnist_pipeline/allow` unblocks a
    model, `mnist_pipeline/accept` promotes one that cannot be compared.
    """
    instance, tags = context.instance, context.run.tags
    version = evaluation.model_version
    rows = validation.only_training_rows(sgd_model, train_set)
    if champion_history.ROLL_BACK in tags:
        decision = champion_history.rolled_back(instance, io_manager.store, tags, version)
    elif not rows.passed:
        return Result(None, [rows])
    else:
        # the step's lock is held until this is recorded: no other decision comes in between
        before = champion_history.before(instance, tags)
        champion = None
        if before.model_version not in {None, version}:
            champion = _champion_predictions(
                before.model_version, context, io_manager, sgd_model, train_set
            )
        source = registry.by_name(train_set.origin.source)
        accepted = champion_history.is_accepted(version, tags)
        gate = Gate(
            floor_params[source.name], champion_params.level, source.promises_mnist, accepted
        )
        decision = gate.decide(sgd_model, train_set, evaluation, before, champion)
    context.log.info(f"{decision.outcome}: {decision.why}")
    decided = [(one.accuracy, one.outcome) for one in champion_history.decisions(instance)[::-1]]
    decided.append((decision.accuracy, decision.outcome))
    return Result(
        decision.champion,
        [rows, promotion.is_champion(version, decision)],
        {
            **decision.metadata,
            **past_models(decided),
            **champion_history.record(decision, version),
        },
        # a rollback is possible whatever the checks report of the newest model
        enforce=decision.outcome != "rolled back",
    )


def _champion_predictions(
    champion: str,
    context: dg.AssetExecutionContext,
    engine: Engine,
    candidate: Fitted,
    train: Digits,
) -> ChampionPredictions | NotComparable | None:
    """Return the champion's predictions for validation rows of the candidate, None if it has none.

    The champion's file is restored if it is gone or damaged.
    """
    try:
        data = _read_or_compute(champion, context, engine)
        if candidate.validated is None:
            return None
        fitted = persistence.loads_fitted(data)
        return promotion.champion_predictions(
            candidate.validated, train, fitted, lambda: persistence.loads(data)
        )
    # not a store that does not answer: that fails the step
    except (DamagedError, FormatError, IncompatibleModelError, FitError) as error:
        return NotComparable(f"the model cannot be compared with the champion: {error}")


def _read_or_compute(version: str, context: dg.AssetExecutionContext, engine: Engine) -> bytes:
    """Return a model's file; one that is damaged is computed again from its record.

    Raises DamagedError where it has no record or computing it again gives another model; StoreError
    or FormatError where its training digits or its params cannot be read.
    """
    instance, store = context.instance, engine.store
    try:
        return champion_history.read_model(instance, store, version)
    except DamagedError as error:
        damaged = error
    context.log.warning(f"{damaged} It is computed again, from its recorded params and digits.")
    for made in history.all_of(instance, champion_history.MODEL):
        if made.data_version == version:
            break
    else:
        raise damaged
    key = champion_history.TRAIN
    train = history.with_version(instance, store, key, made.inputs.get(key, ""))
    if train is None:
        raise DamagedError(f"{damaged} It cannot be computed again: its training digits are gone")
    try:
        inputs = made.value(COMPUTED_WITH)["inputs"]
        params = ModelParams.model_validate(inputs["model_params"])
        by = ValidationParams.model_validate(inputs["validation_params"])
    except (ValidationError, LookupError, TypeError) as error:
        raise FormatError(f"sgd_model {version} has params of another version: {error}") from None
    parts = validation.hold_out(engine.load(instance, train), **by.model_dump())
    model = training.fit(params, parts, context.log.info)
    if model.data_version != version:
        raise DamagedError(
            f"{damaged} Computed again, it is another model: the code or a library has changed"
        )
    data = persistence.dumps(model)
    restored = store.publish(champion_history.MODEL.to_user_string(), made.value("file"), data)
    if restored.sha256 != made.value("sha256"):
        context.log.warning(
            f"sgd_model {version} was computed again, but its file has other bytes than recorded "
            "(a library has another version): `predict` cannot read the recorded one. Restore it "
            "from a backup, or promote another model."
        )
    return data
