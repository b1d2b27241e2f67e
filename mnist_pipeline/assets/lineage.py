"""Lineage: what Dagster knows of a step's inputs and of past decisions, for people to read."""

import time
from datetime import UTC, datetime

import dagster as dg

from mnist_pipeline.assets import champion_history, experiments
from mnist_pipeline.digits.gate import IN_SERVICE
from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.digits.report import AsOf, Decided, Input
from mnist_pipeline.incremental import _dagster
from mnist_pipeline.incremental._dagster import Recorded
from mnist_pipeline.incremental.code_version import MADE_WITH
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.records import newest
from mnist_pipeline.incremental.store import Store

_HISTORY = 100


def as_of(context: dg.AssetExecutionContext, store: Store) -> AsOf:
    """Return what is known now of the inputs of a running step, and of other models."""
    read = {key: found for key, found in _dagster.inputs_of(context).items() if found}
    # and what those were made from, as far as the step does not read it itself
    behind = {
        (key, version)
        for found in read.values()
        for key, version in found.inputs.items()
        if key not in read
    }
    for key, version in sorted(behind):
        made = newest(context.instance, dg.AssetKey(key), _HISTORY)
        read |= [(key, one) for one in made if one.data_version == version][:1]
    return AsOf(
        when=_utc(time.time()),
        run_id=context.run_id,
        decisions=[
            Decided(
                _utc(one.timestamp),
                one.candidate,
                one.outcome,
                one.why,
                one.accuracy,
                one.outcome in IN_SERVICE,
            )
            for one in champion_history.rulings(context.instance, _HISTORY)
        ],
        leaderboard=_leaderboard(context, store),
        inputs=[_input(key, found) for key, found in sorted(read.items(), key=_by_time)],
    )


def _leaderboard(context: dg.AssetExecutionContext, store: Store) -> Leaderboard | None:
    try:
        return experiments.leaderboard(context.instance, store)
    except (StoreError, FormatError) as error:
        context.log.warning(f"the report shows no variants: {error}")
        return None


def _input(key: str, found: Recorded) -> Input:
    made_with = found.metadata.get(MADE_WITH)
    libraries = made_with.value["libraries"] if made_with else {}
    return Input(
        key,
        _utc(found.timestamp),
        found.data_version or "",
        found.code_version or "",
        dict(sorted(libraries.items())),
    )


def _by_time(item: tuple[str, Recorded]) -> int:
    return item[1].storage_id


def _utc(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")
