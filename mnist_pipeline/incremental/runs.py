"""Who is at work: the process that owns a run, the runs in progress, the one refresh at a time.

Dagster leaves a run whose process was killed as it was, for ever: here such runs are found out.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import dagster as dg

from mnist_pipeline.incremental.errors import HistoryError
from mnist_pipeline.incremental.locks import Confirm, FileLocks, Locks
from mnist_pipeline.incremental.store import Store

Say = Callable[[str], None]
"""Called with a sentence about the work so far."""

OWNER = "mnist_pipeline/owner"
"""Tag of a run: its own id, host and process id of its owner, and the token of the lock that this
process holds while it lives: a file, or a key of the history's PostgreSQL server. Tags are copied
when a run is executed again: those are not its own then."""

_NEW = "new"
"""Instead of its own id, where that is not known yet: a run that is executed again is not new."""

WAITING = "mnist_pipeline/waiting"
"""Tag of a run: its own id while it waits for a refresh to end."""

START_SECONDS = 180
"""A run that no process has claimed by then, although it was started, has none."""

_HEARTBEAT_SECONDS = 60.0
_POLL_SECONDS = 1.0
_REFRESH = "refresh"

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.QUEUED,
]

_UNCLAIMED = {
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    # whoever starts one claims it before its first step
    dg.DagsterRunStatus.STARTED,
}


def owner(instance: dg.DagsterInstance, store: Store, run_id: str = _NEW) -> dict[str, str]:
    """Return the tag that says that a run, by default a new one, is this process's.

    Raises
    ------
    StoreError
        The store's folder cannot be written.
    HistoryError
        The history's server does not answer.
    """
    token = locks_of(instance, store).claim()
    return {OWNER: f"{run_id} {socket.gethostname()} {os.getpid()} {token}"}


def unfinished(
    instance: dg.DagsterInstance,
    jobs: Iterable[str],
    assets: Iterable[dg.AssetKey],
    say: Say = lambda text: None,
) -> list[dg.DagsterRun]:
    """Return the runs of these jobs or on these assets that are not over, oldest first.

    Those of dead owners are marked failed before, and the pool slots that they held are free; `say`
    is told of each.
    """
    jobs, assets = set(jobs), set(assets)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=_UNFINISHED), order_by="create_timestamp", ascending=True
    )
    found = []
    for record in records:
        run = record.dagster_run
        if run.job_name not in jobs and not assets & (run.asset_selection or set()):
            continue
        why = death(instance, record)
        if why is None:
            found.append(run)
        # it may have ended well since the list was made
        elif (again := instance.get_run_by_id(run.run_id)) and not again.is_finished:
            _bury(instance, again, why)
            say(f"run {run.run_id} was interrupted: {why}; what it finished stays")
    return found


def in_progress(
    instance: dg.DagsterInstance, jobs: Iterable[str], assets: Iterable[dg.AssetKey]
) -> str | None:
    """Say which of those runs is the oldest, or return None if there is none."""
    return next(
        (
            f"run {run.run_id} is in progress on these assets"
            for run in unfinished(instance, jobs, assets)
        ),
        None,
    )


def wait(
    instance: dg.DagsterInstance, job: dg.JobDefinition, say: Say, *, queued: bool = True
) -> None:
    """Return when no run of this job or on its assets is in progress.

    A run that has a place which another in the daemon's `queued` ones needs must not wait for it.
    """
    said = set()
    assets = job.asset_layer.asset_graph.get_all_asset_keys()
    while others := [
        run
        for run in unfinished(instance, [job.name], assets, say)
        if run.tags.get(WAITING) != run.run_id
        # without a daemon, what waits in its queue waits for ever
        and (run.status is not dg.DagsterRunStatus.QUEUED or (queued and _daemon_lives(instance)))
    ]:
        for run in others:
            if run.run_id not in said:
                said.add(run.run_id)
                by = run.tags[OWNER].split()[1:3] if OWNER in run.tags else ["nobody", "so far"]
                say(
                    f"run {run.run_id} is at work on these assets (owner: {' '.join(by)}): waiting "
                    "for it; if it is none of this machine's and dead, terminate it in the UI"
                )
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def alone(instance: dg.DagsterInstance, store: Store, say: Say) -> Iterator[Confirm]:
    """Hold the lock of the store's refresh; wait for whoever holds it. It is free if he dies.

    What it yields raises HistoryError if the lock was lost.

    Raises
    ------
    StoreError
        The store's folder cannot be written.
    HistoryError
        The history's server does not answer.
    """

    def waiting() -> None:
        say("another refresh is at work: waiting for it")

    with locks_of(instance, store).hold(_REFRESH, waiting) as confirm:
        yield confirm


@contextlib.contextmanager
def in_turn(instance: dg.DagsterInstance, run_id: str, store: Store, say: Say) -> Iterator[Confirm]:
    """Hold that lock for a run; while it waits for it, the run does not count as at work."""
    instance.add_run_tags(run_id, {WAITING: run_id})
    with alone(instance, store, say) as confirm:
        instance.add_run_tags(run_id, {WAITING: "no more"})
        yield confirm


def is_refreshing(instance: dg.DagsterInstance, store: Store) -> bool:
    """Whether a refresh of the store is at work, be it between two of its runs."""
    return locks_of(instance, store).is_held(_REFRESH)


def confirm(instance: dg.DagsterInstance, run_id: str) -> None:
    """Return if a run of this process is not over for others.

    Raises
    ------
    HistoryError
        Somebody took this process for dead, or canceled the run by force.
    """
    run = instance.get_run_by_id(run_id)
    if run and run.is_finished:
        raise HistoryError(
            f"run {run_id} was marked as {run.status.value.lower()} while this process was at work "
            "on it: it stops, and publishes nothing more"
        )


def death(instance: dg.DagsterInstance, record: dg.RunRecord) -> str | None:
    """Say why a run's process is known to be dead, or return None: it lives, or nobody can tell."""
    run = record.dagster_run
    run_id, *claim = run.tags.get(OWNER, "").split(" ", 3)
    its_own = run_id == run.run_id or (run_id == _NEW and run.parent_run_id is None)
    if its_own and len(claim) == 3:
        host, pid, token = claim
        if locks_of(instance).lives(token, host) is False:
            return f"its process {pid} on {host} is gone"
    elif run.status in _UNCLAIMED:
        patience = START_SECONDS
        if instance.run_monitoring_enabled and run.status is not dg.DagsterRunStatus.STARTED:
            # the daemon looks after it, and can say more
            patience += instance.run_monitoring_start_timeout_seconds
        if time.time() - record.update_timestamp.timestamp() > patience:
            return f"no process has taken it up within {patience} s"
    return None


def locks_of(instance: dg.DagsterInstance, store: Store | None = None) -> Locks:
    """Return the locks of a store: of files, or of the server where that keeps the history.

    Tokens of processes are known without the store.
    """
    url = getattr(instance.run_storage, "postgres_url", None)
    if url is None:
        return FileLocks(store.locks if store else Path())
    from mnist_pipeline.incremental.postgres_locks import PostgresLocks

    return PostgresLocks(url, str(store.root).rstrip("/") if store else "")


def _bury(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    message = f"{why}: the run is marked as failed, what it finished stays"
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _daemon_lives(instance: dg.DagsterInstance) -> bool:
    """Whether a Dagster daemon, which starts what waits in the queue, gave a sign lately."""
    heartbeats = instance.get_daemon_heartbeats().values()
    return any(time.time() - beat.timestamp < _HEARTBEAT_SECONDS for beat in heartbeats)
