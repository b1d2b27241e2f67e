"""Experiments: the assets `candidate` (a partition a variant) and `leaderboard`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import ValidationError

from mnist_pipeline.assets import display
from mnist_pipeline.assets.sgd_model import CHECKS, codec, fit
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation import comparison
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.params import ModelParams, ValidationParams
from mnist_pipeline.incremental import history
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.errors import FormatError, PipelineError, SettingsError, StoreError
from mnist_pipeline.incremental.history import Materialization
from mnist_pipeline.incremental.session import Session
from mnist_pipeline.incremental.steps import Result, asset
from mnist_pipeline.incremental.store import Artifact, Store

CANDIDATE = dg.AssetKey("candidate")
LEADERBOARD = dg.AssetKey("leaderboard")
TRAIN = dg.AssetKey("train_set")

Request = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest

VARIANTS = dg.DynamicPartitionsDefinition(name="variants")

GONE = "its file is gone from the store, or damaged"

_TICK_SECONDS = 10


def _params(context: dg.AssetExecutionContext) -> ModelParams:
    """Return the params of the variant that is the step's partition.

    Raises
    ------
    SettingsError
        The params file has no such variant.
    """
    variants: Mapping[str, ModelParams] = context.resources.variants
    if context.partition_key not in variants:
        raise SettingsError(f"the params file has no variant {context.partition_key!r} (any more)")
    return variants[context.partition_key]


@asset(
    codec("candidate.skops"),
    group_name="experiments",
    kinds={"scikitlearn"},
    blocking=CHECKS,
    partitions_def=VARIANTS,
    reads=lambda context: {"params": _params(context).model_dump(mode="json")},
)
def candidate(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    validation_params: dg.ResourceParam[ValidationParams],
    variants: dg.ResourceParam[Mapping[str, ModelParams]],
) -> Result:
    """A model as `sgd_model` is, fitted with a variant of params.toml, `[variants]` or `[sweep]`.

    It is compared on the validation rows, never on test rows.
    """
    return fit(context, train_set, variants[context.partition_key], validation_params)


def _compared(context: dg.AssetExecutionContext) -> dict[str, object]:
    """Return what the leaderboard depends on besides: the candidates, and the variants."""
    variants: Mapping[str, ModelParams] = context.resources.variants
    read = history.partitions_read(context, CANDIDATE)
    return {
        "candidates": {name: one.data_version for name, one in read.items()},
        "variants": {name: one.model_dump(mode="json") for name, one in variants.items()},
        "code_version": context.resources.io_manager.code_versions[CANDIDATE].digest,
    }


@asset(
    json_class("leaderboard.json", Leaderboard),
    group_name="experiments",
    kinds={"json"},
    blocking=[comparison.same_rows],
    warning=[comparison.every_variant],
    deps=[CANDIDATE],
    reads=_compared,
)
def leaderboard(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    variants: dg.ResourceParam[Mapping[str, ModelParams]],
    io_manager: dg.ResourceParam[Engine],
) -> Result:
    """The variants by accuracy on the same validation rows, with intervals and paired tests.

    Left out, with the reason, is what was not fitted, or with other params, training digits or code
    than the current ones.
    """
    read = history.partitions_read(context, CANDIDATE)
    found, left_out = current(variants, io_manager, context.instance, read, train_set.data_version)
    candidates = {}
    for name, (made, artifact) in found.items():
        try:
            fitted = persistence.loads_fitted(io_manager.store.read(artifact))
            if fitted.validated:
                candidates[name] = made.data_version or "", fitted
            else:
                left_out[name] = "nothing was held out of its fit to compare it on"
        except (StoreError, FormatError) as error:
            context.log.warning(f"candidate {name}: {error}")
            left_out[name] = GONE
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StoreError(f"there is nothing to compare. {reasons}")
    same_rows = comparison.same_rows(candidates)
    if not same_rows.passed:
        return Result(None, [same_rows])
    compared = comparison.compare(candidates, left_out, train_set)
    spent = {
        name: {key: made.value(key) for key in ("epochs", "fit_seconds")}
        for name, (made, _) in found.items()
    }
    return Result(
        compared,
        [same_rows, comparison.every_variant(left_out)],
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
        },
    )


def newest_leaderboard(instance: dg.DagsterInstance, store: Store) -> Leaderboard | None:
    """Read the newest leaderboard, or None if there never was one.

    Raises
    ------
    StoreError, FormatError
        Its file is gone, damaged or something else.
    """
    for made in history.newest(instance, LEADERBOARD, 1):
        if artifact := made.artifact(store):
            return Leaderboard.from_json(store.read(artifact))
    return None


def variants_sensor(names_now: Callable[[], Collection[str]]) -> dg.SensorDefinition:
    """Define the sensor that keeps the partitions equal to the variants of the params file.

    It is on by default: it launches nothing, and without it there would be nothing to launch.

    Parameters
    ----------
    names_now : callable
        Returns the current names of the variants.
    """

    @dg.sensor(
        name="variants",
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds and removes partitions of candidate as variants come and go in the "
        "params file. It launches nothing.",
    )
    def variants(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            names = names_now()
        except PipelineError as error:
            return dg.SkipReason(f"the params file does not load: {error}")
        existing = context.instance.get_dynamic_partitions(VARIANTS.name or "")
        added = [name for name in names if name not in set(existing)]
        removed = [name for name in existing if name not in set(names)]
        requests: list[Request] = [VARIANTS.build_add_request(added)] if added else []
        requests += [VARIANTS.build_delete_request(removed)] if removed else []
        what = [f"added {', '.join(added)}"] if added else []
        what += [f"removed {', '.join(removed)}"] if removed else []
        return dg.SensorResult(
            dynamic_partitions_requests=requests,
            skip_reason="; ".join(what) or f"{len(existing)} variants, none came or went",
        )

    return variants


Found = tuple[Materialization, Artifact]


def current(
    variants: Mapping[str, ModelParams],
    engine: Engine,
    instance: dg.DagsterInstance,
    made: Mapping[str, Materialization],
    train_version: str | None,
) -> tuple[dict[str, Found], dict[str, str]]:
    """Say which variants have a candidate that a fit would equal now, and why others do not.

    Parameters
    ----------
    made : mapping
        By variant, its materialization.
    train_version : str or None
        Data version of the training digits that are to count.

    Returns
    -------
    found : dict
        By variant, its materialization and its file.
    left_out : dict
        By variant, the reason.
    """
    found: dict[str, Found] = {}
    left_out: dict[str, str] = {}
    for name, params in variants.items():
        one = made.get(name)
        if one is None:
            left_out[name] = "not fitted yet"
            continue
        artifact = one.artifact(engine.store)
        if why := _other_params(one, params):
            left_out[name] = why
        elif one.inputs.get(TRAIN) != train_version:
            left_out[name] = "fitted on other training digits than the current ones"
        elif one.code_version != engine.code_versions[CANDIDATE].digest:
            left_out[name] = "fitted with other code, libraries or [validation] than the current"
        elif artifact is None or engine.store.size(artifact) != artifact.size:
            left_out[name] = GONE
        elif refused := history.refusals(
            instance, one.data_version, engine.blocking.get(CANDIDATE, [])
        ):
            left_out[name] = f"refused by its check {', '.join(refused)}"
        else:
            found[name] = one, artifact
    return found, left_out


def _other_params(candidate: Materialization, params: ModelParams) -> str | None:
    """Say in which params a candidate differs from a variant, or None; presets are only names."""
    then: Any = candidate.value("params") or {}
    try:
        fitted = ModelParams.model_validate(then)
    except ValidationError:
        return "fitted with params that are not allowed any more"
    now = params.model_dump(exclude={"preset"})
    before = fitted.model_dump(exclude={"preset"})
    other = [f"{key} {before[key]} then, {now[key]} now" for key in now if now[key] != before[key]]
    return f"fitted with other params: {', '.join(other)}" if other else None


@dataclass(frozen=True)
class Comparison:
    """What was fitted, the leaderboard then (None if it failed), and what failed."""

    fitted: list[str]
    leaderboard: Leaderboard | None
    error: str | None


def compare(
    session: Session, variants: Mapping[str, ModelParams], wanted: Collection[str]
) -> Comparison:
    """Fit the wanted variants that have no current candidate, then compute the leaderboard.

    Each fit is a run of its own. What fails leaves the others as they are.

    Raises
    ------
    StoreError
        The training digits are not up to date.
    """
    instance, engine = session.instance, session.pipeline.engine
    train = session.status()[TRAIN]
    if train.status != "fresh":
        raise StoreError(
            f"train_set is {train.status} ({'; '.join(train.causes)}): run `mnist-pipeline "
            "refresh` first"
        )
    # to remove some is the task of the deployment's own sensor
    instance.add_dynamic_partitions(VARIANTS.name or "", list(wanted))
    fitted: list[str] = []
    problems: list[str] = []
    trigger = "mnist-pipeline compare"
    try:
        for number, name in enumerate(wanted, 1):
            # another process may fit variants too
            made = history.partitions(instance, CANDIDATE, {name})
            one = {name: variants[name]}
            if current(one, engine, instance, made, train.data_version)[0]:
                continue
            session.say(f"fitting {name}, {number} of {len(wanted)}")
            done = session.run([CANDIDATE], trigger=trigger, partition=name)
            fitted += [name] if done.computed else []
            problems += [f"{name}: {done.error}"] if done.error else []
        done = session.run([LEADERBOARD], trigger=trigger)
    except KeyboardInterrupt:
        return Comparison(fitted, None, "interrupted")
    problems += [done.error] if done.error else []
    board = None if done.error else newest_leaderboard(instance, engine.store)
    return Comparison(fitted, board, "\n".join(problems) or None)
