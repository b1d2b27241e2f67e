"""Who is at work: the process that owns a run, the runs in progress, the one refresh at a time.

Dagster leaves a run whose process was killed as it was, for ever: here such runs are found out.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator

import dagster as dg
from filelock import FileLock, Timeout

from mnist_pipeline.store import Store

Say = Callable[[str], None]
"""Called with a sentence about the work so far."""

OWNER = "mnist_pipeline/owner"
"""Tag of a run: host, process id and when that process started (seconds since 1970)."""

START_SECONDS = 180
"""A run that no process has claimed by then, although it was started, has none."""

_CLOCK_SECONDS = 5.0
_POLL_SECONDS = 1.0

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.QUEUED,
]


def owner() -> dict[str, str]:
    """Return the tag that says that a run is this process's."""
    import psutil

    return {OWNER: f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"}


def unfinished(
    instance: dg.DagsterInstance, jobs: Iterable[str], assets: Iterable[dg.AssetKey]
) -> list[dg.DagsterRun]:
    """Return the runs of these jobs or on these assets that are not over, oldest first.

    Those of dead owners are marked failed before, and the pool slots that they held are free.
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
        why = _dead(run, record.update_timestamp.timestamp())
        if why is None:
            found.append(run)
        # it may have ended well since the list was made
        elif (again := instance.get_run_by_id(run.run_id)) and not again.is_finished:
            _bury(instance, again, why)
    return found


def wait(instance: dg.DagsterInstance, job: dg.JobDefinition, say: Say) -> None:
    """Return when no run of this job or on its assets is in progress."""
    said = set()
    assets = job.asset_layer.asset_graph.get_all_asset_keys()
    while others := [
        run
        for run in unfinished(instance, [job.name], assets)
        # what only waits in the queue may wait for a daemon that nobody started
        if run.status is not dg.DagsterRunStatus.QUEUED
    ]:
        for run in others:
            if run.run_id not in said:
                said.add(run.run_id)
                say(f"run {run.run_id} is at work on these assets: waiting for it")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def alone(store: Store, say: Say) -> Iterator[None]:
    """Hold the lock of the store's refresh; wait for whoever holds it. It is free if he dies."""
    lock = _lock(store)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another refresh is at work: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_refreshing(store: Store) -> bool:
    """Whether a refresh of the store is at work, be it between two of its runs."""
    try:
        with _lock(store).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _lock(store: Store) -> FileLock:
    store.root.mkdir(parents=True, exist_ok=True)
    return FileLock(store.root / ".refresh.lock")


def _dead(run: dg.DagsterRun, updated: float) -> str | None:
    if run.status is dg.DagsterRunStatus.QUEUED:
        return None  # it is the daemon's
    if claimed := run.tags.get(OWNER):
        host, pid, started = claimed.split()
        if host == socket.gethostname() and not _lives(int(pid), float(started)):
            return f"its process {pid} is gone"
    elif time.time() - updated > START_SECONDS:
        return f"no process has taken it up within {START_SECONDS} s"
    return None


def _lives(pid: int, started: float) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        # another process may have the same number by now
        same = abs(process.create_time() - started) <= _CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _bury(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    message = f"{why}: the run is marked as failed, what it finished stays"
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
