"""What is kept of the past, and what goes: artifacts that nothing points at, runs of long ago."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg

from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.orchestration import provenance
from mnist_pipeline.orchestration.history import newest
from mnist_pipeline.orchestration.io_manager import artifact_of
from mnist_pipeline.store import Leftover, Store

RUN_DAYS = 90
"""Days after which a finished run and its logs go, unless one of the newest materializations of an
asset is its."""

RUN_MATERIALIZATIONS = 10
"""How many materializations of each asset those are."""


FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]

CHAMPION = dg.AssetKey("champion_model")


def collect(
    instance: dg.DagsterInstance,
    store: Store,
    assets: Iterable[dg.AssetKey],
    *,
    keep: int,
    remove: bool,
) -> list[Leftover]:
    """Return the artifacts that nothing points at, and remove them if asked.

    Pointed at are those of the newest `keep` materializations of each asset, and the model that
    the champion names.

    Raises
    ------
    StoreError, FormatError
        The champion's file is gone or damaged, so that nobody knows which model is in service.
    """
    kept = {
        key.to_user_string(): {made.data_version or "" for made in newest(instance, key, keep)}
        for key in assets
    }
    for made in newest(instance, CHAMPION, 1):
        if artifact := artifact_of(store, CHAMPION.to_user_string(), made):
            champion = Champion.from_json(store.read(artifact))
            kept["sgd_model"].add(champion.model_version)
    return [
        leftover
        for asset, versions in kept.items()
        for leftover in store.leftovers(asset, versions, remove=remove)
    ]


def prune(instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]) -> int:
    """Delete the runs of long ago with their logs; return how many."""
    needed = {made.run_id for key in assets for made in newest(instance, key, RUN_MATERIALIZATIONS)}
    old = dg.RunsFilter(
        statuses=FINISHED, created_before=datetime.now(UTC) - timedelta(days=RUN_DAYS)
    )
    gone = [run.run_id for run in instance.get_runs(old) if run.run_id not in needed]
    for run_id in gone:
        provenance.forget_run(instance, run_id)
    return len(gone)
