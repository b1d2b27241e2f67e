"""Garbage collection: files that nothing points at, their results, and old runs."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from . import _dagster, history, results, runs
from .errors import StoreError
from .store import Garbage

if TYPE_CHECKING:
    from .session import Session

RUN_DAYS = 90
"""Days after which a finished run and its logs are deleted, unless it is needed."""

MOST_RUNS = 200
"""How many runs stay of those that are younger; the oldest go first, unless they are needed."""

RUN_MATERIALIZATIONS = 10
"""Needed are, of each asset, the runs of so many newest materializations, and of the newest one of
so many newest data versions."""


def collect(session: "Session", *, keep: int, remove: bool) -> list[Garbage]:
    """Return the files that nothing points at, and remove them and their results if asked.

    The newest `keep` materializations of each asset point at files, and the assets' `points_at`.
    Raises StoreError if the instance has no record of an asset's files, or if a run began
    meanwhile.
    """
    pipeline, instance = session.pipeline, session.instance
    store, assets = pipeline.store, pipeline.engine.assets
    for key, asset in assets.items():
        if store.holds(asset.name) and not history.newest(instance, key):
            raise StoreError(
                f"{store.root / asset.name} holds artifacts, but Dagster's history in "
                f"{pipeline.home} has no record of them: is DAGSTER_HOME the one "
                "that they were made with? Nothing was removed."
            )

    def kept(key: dg.AssetKey) -> set[str]:
        if remove and runs.in_progress(session, assets):
            raise StoreError("a run began meanwhile: wait for its end, then run gc again")
        pointed_at = pipeline.engine.pointed_at(instance).get(key, ())
        found = [made.artifact(store) for made in history.recent(instance, key, keep)]
        found += [results.artifact_of(instance, store, key, version) for version in pointed_at]
        return {artifact.sha256 for artifact in found if artifact}

    # what fails, fails before anything is removed
    for key in assets:
        kept(key)
    found = []
    for key, asset in assets.items():
        found += store.garbage(asset.name, partial(kept, key), remove=remove)
        if remove:
            results.forget(instance, store, key)
    return found


def prune(session: "Session", *, remove: bool) -> list[str]:
    """Delete this pipeline's old finished runs with their events and logs; return their ids.

    Runs stay that some asset needs, or that made the newest materialization of a version that one
    points at.
    """
    ours = _dagster.runs_of(session.instance, session.pipeline.name, runs.OWNER)
    before = datetime.now(UTC) - timedelta(days=RUN_DAYS)
    gone = [
        run.run_id
        for number, (run, created) in enumerate(ours)
        if run.is_finished and (number >= MOST_RUNS or created < before)
    ]
    needed = _needed(session) if gone else set()
    gone = [run_id for run_id in gone if run_id not in needed]
    for run_id in gone if remove else ():
        _dagster.forget_run(session.instance, run_id)
    return gone


def _needed(session: "Session") -> set[str]:
    """Return the runs whose materializations something needs: reuse, rollback, plots."""
    found: set[str] = set()
    engine, instance = session.pipeline.engine, session.instance
    pointed_at = engine.pointed_at(instance)
    for key in engine.assets:
        versions: set[str | None] = set()
        for number, made in enumerate(history.all_of(instance, key)):
            version = made.data_version
            is_wanted = len(versions) < RUN_MATERIALIZATIONS or version in pointed_at.get(key, ())
            if number < RUN_MATERIALIZATIONS or (is_wanted and version not in versions):
                found.add(made.run_id)
            versions.add(version)
    return found
