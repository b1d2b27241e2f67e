"""Experiments: the assets `candidate` (a partition a variant) and `leaderboard`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.assets.sgd_model import CHECKS, codec, fit
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation import comparison
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.params import ModelParams, ValidationParams
from mnist_pipeline.incremental import history, results
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.results import Earlier
from mnist_pipeline.incremental.session import Session
from mnist_pipeline.incremental.steps import Asset, Result, asset
from mnist_pipeline.incremental.store import Store

CANDIDATE = dg.AssetKey("candidate")
LEADERBOARD = dg.AssetKey("leaderboard")
TRAIN = dg.AssetKey("train_set")

NOT_FITTED = "not fitted with the current params, training digits and code"


def _reads(params: ModelParams) -> dict[str, object]:
    return {"params": params.model_dump(mode="json")}


def _params(context: dg.AssetExecutionContext) -> ModelParams:
    """Return the params of the variant that is the step's partition."""
    variants: Mapping[str, ModelParams] = context.resources.variants
    return variants[context.partition_key]


@asset(
    codec("candidate.skops"),
    group_name="experiments",
    kinds={"scikitlearn"},
    blocking=CHECKS,
    reads=lambda context: _reads(_params(context)),
)
def candidate(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    validation_params: dg.ResourceParam[ValidationParams],
    variants: dg.ResourceParam[Mapping[str, ModelParams]],
) -> Result:
    """A model fitted with one variant of the params.

    It is fitted as `sgd_model` is, with a variant of `[variants]` or `[sweep]` in params.toml, and
    compared on the validation rows, never on test rows.
    """
    return fit(context, train_set, variants[context.partition_key], validation_params)


def _current(
    engine: Engine,
    instance: dg.DagsterInstance,
    variants: Mapping[str, ModelParams],
    train_version: str | None,
) -> dict[str, Earlier]:
    """Return, by variant, the result that its candidate would reuse now, where there is one."""
    code_version = engine.code_versions[CANDIDATE].digest
    found = {}
    for name, params in variants.items():
        key = results.key_of(code_version, {TRAIN: train_version}, name, _reads(params))
        earlier = results.find(instance, CANDIDATE, key)
        if earlier and engine.is_usable(instance, CANDIDATE, earlier):
            found[name] = earlier
    return found


def _compared(context: dg.AssetExecutionContext) -> dict[str, object]:
    """Return what the leaderboard depends on besides: the variants and their candidates."""
    engine: Engine = context.resources.io_manager
    variants: Mapping[str, ModelParams] = context.resources.variants
    train = engine.inputs(leaderboard, context)[TRAIN]
    found = _current(engine, context.instance, variants, train.data_version)
    return {
        "candidates": {name: one.data_version for name, one in found.items()},
        "variants": {name: _reads(params) for name, params in variants.items()},
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

    Left out is what was not fitted with the current params, training digits and code.
    """
    store = io_manager.store
    found = _current(io_manager, context.instance, variants, train_set.data_version)
    left_out = {name: NOT_FITTED for name in variants if name not in found}
    candidates = {}
    for name, one in found.items():
        fitted = persistence.loads_fitted(store.read(one.artifact(store, CANDIDATE)))
        if fitted.validated:
            candidates[name] = one.data_version, fitted
        else:
            left_out[name] = "nothing was held out of its fit to compare it on"
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StoreError(f"there is nothing to compare. {reasons}")
    same_rows = comparison.same_rows(candidates)
    if not same_rows.passed:
        return Result(None, [same_rows])
    compared = comparison.compare(candidates, left_out, train_set)
    spent = {
        name: {key: one.metadata[key].value for key in ("epochs", "fit_seconds")}
        for name, one in found.items()
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


def assets(variants: Collection[str]) -> list[Asset]:
    """Return the assets for these variants, each a partition of `candidate`; none without any."""
    if not variants:
        return []
    partitions = dg.StaticPartitionsDefinition(list(variants))
    options = {**candidate.options, "partitions_def": partitions}
    return [replace(candidate, options=options), leaderboard]


@dataclass(frozen=True)
class Comparison:
    """What was fitted, the leaderboard then (None if it failed), and what failed."""

    fitted: list[str]
    leaderboard: Leaderboard | None
    error: str | None
    trace: str | None = None


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
    fitted: list[str] = []
    problems: list[str] = []
    traces: list[str] = []
    trigger = "mnist-pipeline compare"
    try:
        for number, name in enumerate(wanted, 1):
            # another process may fit variants too
            one = {name: variants[name]}
            found = _current(engine, instance, one, train.data_version).get(name)
            made = history.of_partition(instance, CANDIDATE, name)
            if found and made and made.data_version == found.data_version:
                continue
            session.report(f"fitting {name}, {number} of {len(wanted)}")
            done = session.run([CANDIDATE], trigger=trigger, partition=name)
            fitted += [name] if done.computed else []
            problems += [f"{name}: {done.error}"] if done.error else []
            traces += [done.trace] if done.trace else []
        done = session.run([LEADERBOARD], trigger=trigger)
    except KeyboardInterrupt:
        return Comparison(fitted, None, "interrupted")
    problems += [done.error] if done.error else []
    traces += [done.trace] if done.trace else []
    board = None if done.error else newest_leaderboard(instance, engine.store)
    return Comparison(fitted, board, "\n".join(problems) or None, "\n".join(traces) or None)
