"""Runs: which process owns one, which are in progress, why one failed.

Dagster leaves a run whose process was killed unfinished. Here such runs are marked failed.
"""

import os
import socket
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import dagster as dg

from . import _dagster
from .errors import HistoryError
from .locks import locks_of
from .store import Store

if TYPE_CHECKING:
    from .session import Session

Report = Callable[[str], None]
"""Called with messages about the progress."""

REFRESH = "refresh"
RECOMPUTE_ALL = "recompute_all"

# the UI's list of runs does not show tags with this prefix
OWNER = ".dagster/owner_process"
"""Tag of a run: its own id, host and process id of its owner process, and the token of the lock
that this process holds while it lives. Tags are copied when a run is executed again: the copy names
another run."""

MAX_RETRIES = "dagster/max_retries"
"""Tag of a run: how often the daemon launches it again after a crash."""

START_SECONDS = 180.0
"""Seconds after which a run that no process has claimed is marked failed."""

INTERRUPTED = "interrupted"
_NO_MESSAGE = "failed without a message"
_INTERRUPT = dg.DagsterExecutionInterruptedError.__name__

_POLL_SECONDS = 1.0

_UNCLAIMED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    # a process claims a run before its first step
    dg.DagsterRunStatus.STARTED,
]
_UNFINISHED = [*_UNCLAIMED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.QUEUED]


def owner(instance: dg.DagsterInstance, store: Store, run_id: str) -> dict[str, str]:
    """Return the tag that names this process as the owner of a run."""
    token = locks_of(instance, store).claim()
    return {OWNER: f"{run_id} {socket.gethostname()} {os.getpid()} {token}"}


def owner_of(run: dg.DagsterRun) -> tuple[str, str, str] | None:
    """Return host, process id and token of a run's owner, or None if no process claimed it."""
    run_id, *owner = run.tags.get(OWNER, "").split(" ", 3)
    return (owner[0], owner[1], owner[2]) if run_id == run.run_id and len(owner) == 3 else None


def unfinished(session: "Session", assets: Collection[dg.AssetKey]) -> list[dg.DagsterRun]:
    """Return the unfinished runs on these assets, oldest first.

    Runs of dead processes are marked failed first, each of which is reported.
    """
    instance, jobs = session.instance, session.pipeline.jobs
    records = instance.get_run_records(
        dg.RunsFilter(statuses=_UNFINISHED), order_by="create_timestamp", ascending=True
    )
    found = []
    for record in records:
        run = record.dagster_run
        if not set(assets) & (run.asset_selection or jobs.get(run.job_name, set())):
            continue
        why = why_dead(instance, record)
        if why is None:
            found.append(run)
        # it may have ended well since the list was read
        elif (again := instance.get_run_by_id(run.run_id)) and not again.is_finished:
            message = f"{why}: the run is marked as failed, what it finished stays"
            _dagster.mark_failed(instance, again, message)
            session.report(f"run {run.run_id} was interrupted: {why}; what it finished stays")
    return found


def in_progress(session: "Session", assets: Collection[dg.AssetKey]) -> list[dg.DagsterRun]:
    """Return the unfinished runs on these assets that go on by themselves.

    Runs in the daemon's queue count only while a daemon is alive.
    """
    return [
        run
        for run in unfinished(session, assets)
        if run.status is not dg.DagsterRunStatus.QUEUED
        or _dagster.daemon_is_alive(session.instance)
    ]


def wait(session: "Session", assets: Collection[dg.AssetKey]) -> None:
    """Return when no run on these assets is in progress."""
    reported = set()
    while others := in_progress(session, assets):
        for run in others:
            if run.run_id not in reported:
                reported.add(run.run_id)
                process = " ".join((owner_of(run) or ("none so far",))[:2])
                session.report(
                    f"waiting for run {run.run_id} on these assets (owner: {process}); if "
                    "its process is on another machine and dead, terminate the run in the UI"
                )
        time.sleep(_POLL_SECONDS)


def confirm(instance: dg.DagsterInstance, run_id: str) -> None:
    """Raise HistoryError if another process marked a run of this process as failed or canceled."""
    run = instance.get_run_by_id(run_id)
    if run and run.is_finished:
        raise HistoryError(
            f"run {run_id} was marked as {run.status.value.lower()} while this process worked on "
            "it: it stops, and publishes nothing more"
        )


def why_dead(instance: dg.DagsterInstance, record: dg.RunRecord) -> str | None:
    """Return why a run's process is known to be dead, or None: it is alive, or that is unknown."""
    run = record.dagster_run
    if owner := owner_of(run):
        host, process, token = owner
        if locks_of(instance).lives(token, host) is False:
            return f"its process {process} on {host} is gone"
    elif run.status in _UNCLAIMED:
        patience = START_SECONDS
        if run.status is not dg.DagsterRunStatus.STARTED:
            # the daemon watches the start
            patience += _dagster.start_timeout(instance) or 0
        if time.time() - record.update_timestamp.timestamp() > patience:
            return f"no process has started it within {patience:.0f} s"
    return None


def why_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return a line for each step of a run that failed, or else why the run did."""
    failures = _dagster.failures(instance, run_id)
    steps = [f"{step}: {text or _innermost(error)}" for step, error, text in failures if step]
    errors = [_innermost(error) for step, error, _ in failures if error and not step]
    # the first is the cause: what follows is Dagster marking the run
    others = [text for step, error, text in failures if not step and not error]
    return "\n".join(steps) or [*errors[-1:], *others, _NO_MESSAGE][0]


def tracebacks(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the tracebacks of what failed in a run, as its log has them."""
    failures = _dagster.failures(instance, run_id)
    return "\n".join(error.to_string() for _, error, _ in failures if error)


def was_interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a signal ended the run in the middle of a step."""
    failures = _dagster.failures(instance, run_id)
    return any(step and error and error.cls_name == _INTERRUPT for step, error, _ in failures)


def _innermost(error: Any) -> str:
    """Return the message of the innermost exception."""
    if error and error.cls_name == _INTERRUPT:
        return INTERRUPTED
    while error and error.cause:
        error = error.cause
    return error.message.split(": ", 1)[-1].strip() if error else _NO_MESSAGE
