"""Who is at work: the process that owns a run, the runs in progress, the one refresh at a time.

Dagster leaves a run whose process was killed as it was, for ever: here such runs are found out.
"""

import atexit
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from mnist_pipeline.errors import StoreError
from mnist_pipeline.store import Store

Say = Callable[[str], None]
"""Called with a sentence about the work so far."""

OWNER = "mnist_pipeline/owner"
"""Tag of a run: its own id, host and process id of its owner, and the file that this process holds
locked while it lives. Tags are copied when a run is executed again: those are not its own then."""

_NEW = "new"
"""Instead of its own id, where that is not known yet: a run that is executed again is not new."""

WAITING = "mnist_pipeline/waiting"
"""Tag of a run: its own id while it waits for a refresh to end."""

START_SECONDS = 180
"""A run that no process has claimed by then, although it was started, has none."""

_HEARTBEAT_SECONDS = 60.0
_POLL_SECONDS = 1.0
_LEFT_SECONDS = 86_400.0

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

_held: dict[Path, FileLock] = {}


def owner(store: Store, run_id: str = _NEW) -> dict[str, str]:
    """Return the tag that says that a run, by default a new one, is this process's.

    Raises
    ------
    StoreError
        The store's folder cannot be written.
    """
    folder = store.root / ".owners"
    if folder not in _held:
        for left in folder.glob("*.lock"):
            # a run worker ends without its exit handlers
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS and not _is_held(left):
                left.unlink(missing_ok=True)
        lock = _lock(folder / f"{os.getpid()}-{uuid.uuid4().hex}.lock")
        _acquire(lock)
        _held[folder] = lock
        atexit.register(Path(lock.lock_file).unlink, missing_ok=True)
    return {OWNER: f"{run_id} {socket.gethostname()} {os.getpid()} {_held[folder].lock_file}"}


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
        why = _dead(run, record.update_timestamp.timestamp())
        if why is None:
            found.append(run)
        # it may have ended well since the list was made
        elif (again := instance.get_run_by_id(run.run_id)) and not again.is_finished:
            _bury(instance, again, why)
            say(f"run {run.run_id} was interrupted: {why}; what it finished stays")
    return found


def wait(instance: dg.DagsterInstance, job: dg.JobDefinition, say: Say) -> None:
    """Return when no run of this job or on its assets is in progress."""
    said = set()
    assets = job.asset_layer.asset_graph.get_all_asset_keys()
    while others := [
        run
        for run in unfinished(instance, [job.name], assets, say)
        if run.tags.get(WAITING) != run.run_id
        # without a daemon, what waits in its queue waits for ever
        and (run.status is not dg.DagsterRunStatus.QUEUED or _daemon_lives(instance))
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
def alone(store: Store, say: Say) -> Iterator[None]:
    """Hold the lock of the store's refresh; wait for whoever holds it. It is free if he dies.

    Raises
    ------
    StoreError
        The store's folder cannot be written.
    """
    lock = _lock(store.root / ".refresh.lock")
    try:
        _acquire(lock, timeout=0)
    except Timeout:
        say("another refresh is at work: waiting for it")
        _acquire(lock)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def in_turn(instance: dg.DagsterInstance, run_id: str, store: Store, say: Say) -> Iterator[None]:
    """Hold that lock for a run; while it waits for it, the run does not count as at work."""
    instance.add_run_tags(run_id, {WAITING: run_id})
    with alone(store, say):
        instance.add_run_tags(run_id, {WAITING: "no more"})
        yield


def is_refreshing(store: Store) -> bool:
    """Whether a refresh of the store is at work, be it between two of its runs."""
    return _is_held(store.root / ".refresh.lock")


def _lock(file: Path) -> FileLock:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # not for one thread of this process alone
        return FileLock(file, thread_local=False)
    except OSError as error:
        raise StoreError(
            f"MNIST_DATA_DIR: cannot use {file.parent}: {error.strerror} ({error.filename})"
        ) from None


def _acquire(lock: FileLock, timeout: float = -1) -> None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise StoreError(
            f"MNIST_DATA_DIR: cannot write {lock.lock_file}: {error.strerror}"
        ) from None


def _is_held(file: Path) -> bool:
    try:
        with _lock(file).acquire(timeout=0):
            return False
    # where nobody can write, nobody can tell
    except OSError:
        return True


def _dead(run: dg.DagsterRun, updated: float) -> str | None:
    run_id, *claim = run.tags.get(OWNER, "").split(" ", 3)
    its_own = run_id == run.run_id or (run_id == _NEW and run.parent_run_id is None)
    if its_own and len(claim) == 3:
        host, pid, lock = claim
        file = Path(lock)
        # the file of a process that ended is gone; that of one that was killed is free
        gone = not file.exists() and host == socket.gethostname() and file.parent.is_dir()
        if gone or (file.exists() and not _is_held(file)):
            return f"its process {pid} on {host} is gone"
    elif run.status in _UNCLAIMED and time.time() - updated > START_SECONDS:
        return f"no process has taken it up within {START_SECONDS} s"
    return None


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
