"""Lineage: the inputs of the report, and the decisions so far."""

import contextlib
import time

import dagster as dg

from mnist_pipeline.assets import champion_history, experiments
from mnist_pipeline.assets.raw_mnist import KEY as RAW
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.report import AsOf, Input, utc
from mnist_pipeline.incremental.engine import COMPUTED_WITH, Engine
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.history import Materialization
from mnist_pipeline.incremental.steps import Asset
from mnist_pipeline.incremental.store import Store

_HISTORY = 100


def as_of(context: dg.AssetExecutionContext, engine: Engine, asset: Asset) -> AsOf:
    """Return what is known now of the inputs of a running step, and of other models."""
    read = engine.inputs(asset, context)
    # the source too, as far as it is still recorded
    with contextlib.suppress(StoreError):
        read |= engine.further(context.instance, read, frozenset({RAW}))
    return AsOf(
        when=utc(time.time()),
        run_id=context.run_id,
        decisions=champion_history.decisions(context.instance, _HISTORY),
        leaderboard=_leaderboard(context, engine.store),
        inputs=[_input(one) for one in sorted(read.values(), key=lambda one: one.storage_id)],
    )


def _leaderboard(context: dg.AssetExecutionContext, store: Store) -> Leaderboard | None:
    try:
        return experiments.newest_leaderboard(context.instance, store)
    except (StoreError, FormatError) as error:
        context.log.warning(f"the report shows no variants: {error}")
        return None


def _input(made: Materialization) -> Input:
    libraries = (made.value(COMPUTED_WITH) or {}).get("libraries", {})
    return Input(
        made.key.to_user_string(),
        utc(made.timestamp),
        made.data_version or "",
        made.code_version or "",
        dict(sorted(libraries.items())),
    )
