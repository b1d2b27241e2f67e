"""Garbage collection: files that nothing points at, their results, and old runs."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from . import _dagster, history, results, runs
from .errors import StoreError
from .history import Materialization
from .store import Garbage

if TYPE_CHECKING:
    from .pipeline import Pipeline

RUN_DAYS = 90
"""Days after which a finished run and its logs are deleted, unless it materialized one of the
newest of an asset."""

RUN_MATERIALIZATIONS = 10
"""How many materializations of each asset those are."""


def collect(
    pipeline: "Pipeline", instance: dg.DagsterInstance, *, keep: int, remove: bool
) -> list[Garbage]:
    """Return the files that nothing points at, and remove them and their results if asked.

    The newest `keep` materializations of each asset and partition point at files, and what the
    pipeline itself keeps. Raises StoreError if the instance has no record of an asset's files, or
    if a run began meanwhile.
    """
    store, assets = pipeline.store, pipeline.engine.assets
    for key, asset in assets.items():
        if store.holds(asset.name) and not history.newest(instance, key, 1):
            raise StoreError(
                f"{store.root / asset.name} holds artifacts, but Dagster's history in "
                f"{pipeline.home} has no record of them: is DAGSTER_HOME the one "
                "that they were made with? Nothing was removed."
            )

    def kept(key: dg.AssetKey) -> set[str]:
        if remove and runs.unfinished(instance, assets):
            raise StoreError("a run began meanwhile: wait for its end, then run gc again")
        versions = pipeline.keep(instance).get(key, set())
        return {
            artifact.sha256
            for number, made in _newest(instance, key)
            if (number < keep or made.data_version in versions)
            and (artifact := made.artifact(store))
        }

    # what fails, fails before anything is removed
    for key in assets:
        kept(key)
    found = []
    for key, asset in assets.items():
        found += store.garbage(asset.name, partial(kept, key), remove=remove)
        if remove:
            results.forget(instance, store, key)
    return found


def prune(pipeline: "Pipeline", instance: dg.DagsterInstance) -> int:
    """Delete this pipeline's old finished runs with their logs; return how many.

    Runs stay that materialized one of the newest of an asset or partition, or its newest data
    version (what checks found of it is recorded there), or a version that the pipeline keeps.
    """
    needed = set()
    for key in pipeline.engine.assets:
        versions = set(pipeline.keep(instance).get(key, ()))
        for number, made in _newest(instance, key):
            if number == 0:
                versions.add(made.data_version or "")
            if number < RUN_MATERIALIZATIONS or made.data_version in versions:
                needed.add(made.run_id)
    old = dg.RunsFilter(created_before=datetime.now(UTC) - timedelta(days=RUN_DAYS))
    found = [record.dagster_run for record in instance.get_run_records(old)]
    gone = [
        run.run_id
        for run in found
        if run.is_finished and run.run_id not in needed and runs.OWNER in run.tags
    ]
    for run_id in gone:
        _dagster.forget_run(instance, run_id)
    return len(gone)


def _newest(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> Iterator[tuple[int, Materialization]]:
    """Yield materializations, newest first, each with its number within its partition, from 0."""
    numbers: defaultdict[str | None, Iterator[int]] = defaultdict(itertools.count)
    for made in history.all_of(instance, key):
        yield next(numbers[made.partition]), made
