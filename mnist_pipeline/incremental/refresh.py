"""Refreshing: what is not fresh is made in waves, each a run, until nothing is left to make.

One run could not stop early: it would skip everything below an asset that came out as it was.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import dagster as dg

from mnist_pipeline.incremental import failures, runs, status
from mnist_pipeline.incremental.history import TRIGGER
from mnist_pipeline.incremental.runs import Say
from mnist_pipeline.incremental.status import Standing
from mnist_pipeline.incremental.store import Store


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes
    ----------
    materialized : list of str
        Keys, in order.
    fresh : list of str
        Keys of all assets that are fresh now.
    error : str or None
        What failed or is still not fresh, and why.
    """

    materialized: list[str]
    fresh: list[str]
    error: str | None


@dataclass(frozen=True)
class Plan:
    """What a refresh would do: keys that it would make first, that might follow, that are fresh."""

    first_wave: list[str]
    may_follow: list[str]
    fresh: list[str]


def plan(
    job: dg.JobDefinition, instance: dg.DagsterInstance, store: Store, *, verify: bool = False
) -> Plan:
    """Return what `refresh` would do. What comes out as it was spares what follows from it."""
    graph = job.asset_layer.asset_graph
    standings = status.assess(graph, instance, store, verify=verify)
    wave = status.frontier(graph, standings)
    return Plan(
        [key.to_user_string() for key in wave],
        [
            key.to_user_string()
            for key, found in standings.items()
            if key not in wave
            and (found.status != "fresh" or graph.get_ancestor_asset_keys(key) & set(wave))
        ],
        [key.to_user_string() for key, found in standings.items() if found.status == "fresh"],
    )


def refresh(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    store: Store,
    *,
    trigger: str,
    changed: Callable[[], str | None] = lambda: None,
    first: Collection[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    verify: bool = False,
    queued: bool = True,
    say: Say = lambda text: None,
) -> Refreshed:
    """Make what is not fresh and has no ancestor that is not; again, until all is fresh.

    What failed is not tried again, and what descends from it stays as it is. Refreshes of one
    store wait for one another, and each wave for the runs that are in progress.

    Parameters
    ----------
    job : JobDefinition
        Of all assets, with the code versions of now.
    trigger : str
        What the runs say that they were asked for by.
    changed : callable
        Says what is no longer as it was when `job` was defined, or returns None. Nothing is made
        under definitions of the past.
    first : collection of AssetKey
        Made before all else, fresh or not. If one fails, nothing else is done.
    tags : mapping
        Further tags of the runs.
    verify : bool
        Read every file again and compare it with the digest once recorded.
    queued : bool
        Wait also for runs in the daemon's queue. Not from a run that has a place there itself: with
        one place, the two would wait for each other.
    """
    graph = job.asset_layer.asset_graph
    run_ids: list[str] = []
    problems: list[str] = []
    attempted: set[dg.AssetKey] = set()
    standings: dict[dg.AssetKey, Standing] = {}
    wave = sorted(first)
    try:
        with runs.alone(instance, store, say) as confirm:
            while True:
                confirm()
                runs.wait(instance, job, say, queued=queued)
                standings = status.assess(graph, instance, store, verify=verify)
                if problems and attempted == set(first):
                    break  # without the source there is nothing to go by
                wave = wave or [
                    key for key in status.frontier(graph, standings) if key not in attempted
                ]
                if not wave:
                    break
                if reason := changed():
                    problems.append(f"{reason} since they were loaded: start again")
                    break
                attempted |= set(wave)
                say(f"making {', '.join(key.to_user_string() for key in wave)}")
                run_ids.append(str(uuid.uuid4()))
                failed = run(
                    job, instance, store, run_ids[-1], wave, {**(tags or {}), TRIGGER: trigger}
                )
                problems += [failed] if failed else []
                wave = []
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        problems = [failures.INTERRUPTED]
        standings = status.assess(graph, instance, store, verify=verify)
    materialized = [key for run_id in run_ids for key in _materialized(instance, run_id)]
    not_fresh = {key: found for key, found in standings.items() if found.status != "fresh"}
    problems = problems or [
        f"{key.to_user_string()} is {found.status}: {'; '.join(found.causes)}"
        for key, found in not_fresh.items()
    ]
    return Refreshed(
        materialized,
        [key.to_user_string() for key in standings if key not in not_fresh],
        "\n".join(problems) or None,
    )


def run_alone(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    store: Store,
    asset: dg.AssetKey,
    *,
    trigger: str,
    tags: Mapping[str, str],
    say: Say = lambda text: None,
) -> str | None:
    """Make one asset, fresh or not, when no refresh and no run is in progress.

    Returns
    -------
    What failed, or None.
    """
    with runs.alone(instance, store, say) as confirm:
        runs.wait(instance, job, say)
        confirm()
        return run(job, instance, store, str(uuid.uuid4()), [asset], {**tags, TRIGGER: trigger})


def run(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    store: Store,
    run_id: str,
    assets: Collection[dg.AssetKey],
    tags: Mapping[str, str],
    partition: str | None = None,
) -> str | None:
    """Run some assets, or a partition of one, in this process; return what failed, or None.

    Raises
    ------
    KeyboardInterrupt
        The run was interrupted.
    """
    result = job.execute_in_process(
        run_config={"loggers": {"terminal": {}}},
        instance=instance,
        asset_selection=list(assets),
        partition_key=partition,
        run_id=run_id,
        tags={**tags, **runs.owner(instance, store, run_id)},
        raise_on_error=False,
    )
    if result.success:
        return None
    if failures.was_interrupted(instance, run_id):
        raise KeyboardInterrupt
    return failures.of_run(instance, run_id)


def _materialized(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = [entry.get_dagster_event() for entry in logs]
    return [event.asset_key.to_user_string() for event in events if event.asset_key]
