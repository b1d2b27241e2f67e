"""Experiments: an asset `candidate/NAME` for each variant of the params, and `leaderboard`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import dagster as dg

from mnist_pipeline.assets import champion_history, display
from mnist_pipeline.assets.sgd_model import codec, sgd_model
from mnist_pipeline.config.variants import asset_name
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Fitted
from mnist_pipeline.digits.evaluation import comparison
from mnist_pipeline.digits.evaluation.leaderboard import CHAMPION, MODEL, Leaderboard
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.incremental import history, results
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.results import Earlier
from mnist_pipeline.incremental.session import Session
from mnist_pipeline.incremental.steps import Asset, Result, asset
from mnist_pipeline.incremental.store import Store

LEADERBOARD = dg.AssetKey("leaderboard")

NOT_FITTED = "not fitted with the current params, training digits and code"


def key_of(name: str) -> dg.AssetKey:
    """Return the key of what fits a variant, or the model or champion of `leaderboard`."""
    if name in {MODEL, CHAMPION}:
        return sgd_model.key
    return dg.AssetKey(["candidate", asset_name(name)])


def _candidate(name: str, params: ModelParams) -> Asset:
    """Return the step of `sgd_model` with the params of a variant."""
    text = (
        f"A model fitted with the variant {name}.\n\nIt is fitted as `sgd_model` is, with a "
        "variant of `[variants]` or `[sweep]` in params.toml, and compared on the validation rows, "
        "never on test rows."
    )
    options = {**sgd_model.options, "group_name": "experiments", "description": text}
    candidate = sgd_model.with_values(key_of(name), model_params=params)
    return replace(candidate, codec=codec("candidate.skops"), options=options)


def _fitted(
    engine: Engine,
    instance: dg.DagsterInstance,
    names: Collection[str],
    train_version: str | None,
) -> dict[str, Earlier]:
    """Return what would be reused now for these variants and for `[model]`, and the champion.

    Left out is what was not fitted, or whose file is not intact.
    """
    found = {}
    for name in [MODEL, *names]:
        key = key_of(name)
        reused = results.key_of(
            engine.code_versions[key].digest, {champion_history.TRAIN: train_version}
        )
        earlier = results.find(instance, key, reused)
        if earlier and engine.is_usable(instance, key, earlier):
            found[name] = earlier
    version = champion_history.champion_now(instance).model_version
    champion = version and results.with_version(instance, engine.store, sgd_model.key, version)
    return {**found, CHAMPION: champion} if champion else found


@asset(
    json_class("leaderboard.json", Leaderboard),
    group_name="experiments",
    kinds={"json"},
    blocking=[comparison.same_rows],
    warning=[comparison.every_variant],
    deps=[sgd_model.key, champion_history.CHAMPION],
)
def leaderboard(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    variants: dg.ResourceParam[Collection[str]],
    io_manager: dg.ResourceParam[Engine],
) -> Result:
    """The variants, the model and the champion by accuracy.

    They are compared on the same validation rows, with intervals and paired tests. Left out is what
    was not fitted with the current params, training digits and code.
    """
    store = io_manager.store
    found = _fitted(io_manager, context.instance, variants, train_set.data_version)
    left_out = {name: NOT_FITTED for name in [MODEL, *variants] if name not in found}
    candidates: dict[str, tuple[str, Fitted]] = {}
    for name, one in found.items():
        fitted = persistence.loads_fitted(store.read(one.artifact(store, key_of(name))))
        if not fitted.validated:
            left_out[name] = "nothing was held out of its fit to compare it on"
        elif (
            name == CHAMPION
            and not comparison.same_rows({**candidates, name: (one.data_version, fitted)}).passed
        ):
            left_out[name] = "it was validated on other rows"
        else:
            candidates[name] = one.data_version, fitted
    if not set(variants) & set(candidates):
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
    missing = {name: why for name, why in left_out.items() if name in variants}
    return Result(
        compared,
        [same_rows, comparison.every_variant(missing)],
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

    Raises StoreError or FormatError where its file is gone, damaged or something else.
    """
    made = history.newest(instance, LEADERBOARD)
    artifact = made.artifact(store) if made else None
    return Leaderboard.from_json(store.read(artifact)) if artifact else None


def assets(variants: Mapping[str, ModelParams]) -> list[Asset]:
    """Return an asset for each of these variants, and the leaderboard; none without any."""
    if not variants:
        return []
    names = list(variants)
    candidates = [_candidate(name, params) for name, params in variants.items()]

    def reads(context: dg.AssetExecutionContext) -> dict[str, object]:
        engine: Engine = context.resources.io_manager
        train = engine.inputs(compared, context)[champion_history.TRAIN]
        found = _fitted(engine, context.instance, names, train.data_version)
        return {"fitted": {name: one.data_version for name, one in found.items()}}

    compared = leaderboard.with_values(LEADERBOARD, variants=names)
    deps = *leaderboard.deps, *(one.key for one in candidates)
    return [*candidates, replace(compared, deps=deps, reads=reads)]


@dataclass(frozen=True)
class Comparison:
    """What was fitted, the leaderboard then (None if it failed), and what failed."""

    fitted: list[str]
    leaderboard: Leaderboard | None
    error: str | None
    trace: str | None


def compare(session: Session, wanted: Collection[str]) -> Comparison:
    """Fit the wanted variants that are not fitted, in one run; then compute the leaderboard.

    What fails leaves the others as they are.

    Raises StoreError where the training digits are not up to date.
    """
    train = session.status()[champion_history.TRAIN]
    if train.status != "fresh":
        raise StoreError(
            f"train_set is {train.status} ({'; '.join(train.causes)}): run `mnist-pipeline "
            "refresh` first"
        )
    instance, trigger = session.instance, "mnist-pipeline compare"
    found = _fitted(session.pipeline.engine, instance, wanted, train.data_version)

    def is_fitted(name: str) -> bool:
        made = history.newest(instance, key_of(name))
        return bool(made and name in found and made.data_version == found[name].data_version)

    runs = []
    if missing := [name for name in wanted if not is_fitted(name)]:
        session.report(f"fitting {len(missing)} of {len(wanted)} variants")
        runs.append(session.run([key_of(name) for name in missing], trigger=trigger))
    computed = {key for run in runs for key in run.computed}
    # a run of its own: it compares what was fitted though one of them failed
    runs.append(session.run([LEADERBOARD], trigger=trigger))
    failed = [run for run in runs if run.error]
    return Comparison(
        [name for name in missing if key_of(name).to_user_string() in computed],
        None if runs[-1].error else newest_leaderboard(instance, session.pipeline.store),
        "\n".join(str(run.error) for run in failed) or None,
        "\n".join(run.trace or "" for run in failed) or None,
    )
