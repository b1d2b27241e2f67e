"""Adapter: every call of Dagster 1.13 that is not part of its public interface.

A test compares the attributes that all other modules use with Dagster's public ones.
"""

import contextlib
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO, cast

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import AssetRecord as AssetRecord
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.runs.schema import KeyValueStoreTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils import log
from dagster._utils.schedules import cron_string_iterator

AssetJob = UnresolvedAssetJobDefinition
"""What `dagster.define_asset_job` returns."""

CheckTarget = AssetCheckEvaluationTargetMaterializationData
"""Names the materialization that a check was of."""

RE_EXECUTED = "dagster/parent_run_id"
"""Tag of a re-executed run: the run that it repeats."""

_CARRIED = "incremental"
_REPOSITORY = "__repository__"
_HEARTBEAT_SECONDS = 60.0


# Logs


def colour_logs_on_terminals_only(stream: TextIO) -> None:
    """Log without colours in this process where a stream is not a terminal, or NO_COLOR is set.

    By itself, a daemon logs in colours to every stream, and a run to every terminal.
    """
    if os.environ.get("NO_COLOR") or not stream.isatty():
        cast(Any, log).coloredlogs.ColoredFormatter = _WithoutColours


class _WithoutColours(logging.Formatter):
    def __init__(self, fmt: str, datefmt: str, **styles: object) -> None:
        super().__init__(fmt, datefmt)


class _Progress(logging.StreamHandler[TextIO]):
    """Prints what steps log, and that they are done; failures are reported once, at the end."""

    def filter(self, record: logging.LogRecord) -> bool:
        event = _meta(record)["dagster_event"]
        if event:
            return bool(event.is_step_success)
        return logging.INFO <= record.levelno < logging.ERROR

    def format(self, record: logging.LogRecord) -> str:
        meta = _meta(record)
        text = meta["orig_message"]
        if event := meta["dagster_event"]:
            text = f"done in {event.step_success_data.duration_ms / 1000:.1f} s"
        return f"  {_asset_of(meta['step_key']) or '':<15} {text}"


def _asset_of(step_key: str | None) -> str | None:
    """Return the key of a step's asset as people write it."""
    return step_key and step_key.replace("__", "/")


def _meta(record: logging.LogRecord) -> Any:
    return cast("Any", record).dagster_meta


@cache
def _stderr() -> TextIO:
    """Return stderr as it was before a step began.

    While a step runs, Dagster redirects it to a file and prints that with `tail`, which may end
    before the last line.
    """
    return os.fdopen(os.dup(2), "w", buffering=1)


@dg.logger({}, description="Progress in a terminal: one line a log message, on stderr.")
def terminal(context: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger of command-line runs."""
    logger = logging.Logger("incremental.terminal", logging.DEBUG)
    logger.addHandler(_Progress(_stderr()))
    return logger


# Definitions


def select(definitions: dg.Definitions, selection: str) -> set[dg.AssetKey]:
    """Return the selected assets; DagsterError or NotImplementedError if it is not a selection."""
    graph = definitions.resolve_asset_graph()
    with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):  # of `group:`
        return set(dg.AssetSelection.from_string(selection).resolve(graph))


def job_of(definitions: dg.Definitions, name: str | None) -> dg.JobDefinition:
    """Return a job, or without a name Dagster's own of all assets."""
    if name is None:
        return definitions.resolve_implicit_global_asset_job_def()
    return definitions.resolve_job_def(name)


def next_tick(cron: str) -> datetime:
    """Return when a cron expression, in UTC, is true next; ValueError if it never is."""
    return next(cron_string_iterator(time.time(), cron, "UTC"))


def carried(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Carry JSON-like content from the code server that loads the definitions to its run workers.

    Returns None in the code server; in a worker, the content as it was in the code server.
    """
    context = DefinitionsLoadContext.get()
    if context.load_type is DefinitionsLoadType.INITIALIZATION:
        context.add_to_pending_reconstruction_metadata(_CARRIED, json.dumps(content))
        return None
    found = context.reconstruction_metadata.get(_CARRIED)
    return json.loads(str(found)) if found else None


# Runs


def execute(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    origin: tuple[str, str],
    run_id: str,
    assets: Collection[dg.AssetKey] | None,
    tags: Mapping[str, str],
) -> tuple[bool, list[dg.AssetMaterialization]]:
    """Execute a run in this process; return whether it succeeded, and what it materialized.

    `origin` is the module with the definitions and the name of its code location: the run gets the
    origin that the UI would give it, so that it is on the job's page. No `assets` are all of the
    job's.
    """
    module, location = origin
    target = LoadableTargetOrigin(module_name=module)
    code = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=location)
    run = instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config={"loggers": {"terminal": {}}},
        tags=tags,
        asset_selection=None if assets is None else set(assets),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(code, _REPOSITORY), job.name),
    )
    result = execute_run(InMemoryJob(job), run, instance)
    events = result.get_asset_materialization_events()
    return result.success, [one.step_materialization_data.materialization for one in events]


def runs_of(
    instance: dg.DagsterInstance, location: str, tag: str
) -> list[tuple[dg.DagsterRun, datetime]]:
    """Return the runs of a code location, or with a tag, newest first; when each was created."""
    label = f"{_REPOSITORY}@{location}"
    return [
        (record.dagster_run, record.create_timestamp)
        for record in instance.get_run_records()
        if tag in record.dagster_run.tags
        or record.dagster_run.tags.get(REPOSITORY_LABEL_TAG) == label
    ]


def add_tags(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    instance.add_run_tags(run_id, tags)


def max_retries(instance: dg.DagsterInstance) -> int:
    return instance.run_retries_max_retries if instance.run_retries_enabled else 0


def mark_failed(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    """End a run whose process is dead, canceled if that was asked for; free its pool slots."""
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, why)
    else:
        instance.report_run_failed(run, why)
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        storage.free_concurrency_slots_for_run(run.run_id)


def start_timeout(instance: dg.DagsterInstance) -> float | None:
    """Return the seconds that the daemon gives a run to start, or None where it does not look."""
    if not instance.run_monitoring_enabled:
        return None
    return float(instance.run_monitoring_start_timeout_seconds)


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon, which starts the runs in the queue, gave a heartbeat in the last minute."""
    heartbeats = instance.get_daemon_heartbeats().values()
    return any(time.time() - beat.timestamp < _HEARTBEAT_SECONDS for beat in heartbeats)


def forget_daemons(instance: dg.DagsterInstance) -> None:
    """Forget the heartbeats of daemons that are dead."""
    instance.wipe_daemon_heartbeats()


@contextlib.contextmanager
def webserver(instance: dg.DagsterInstance, workspace: Path) -> Iterator[tuple[Any, Path]]:
    """Load a workspace in code servers; yield the UI's ASGI application and a workspace file.

    The file leads a daemon to the same code servers, as `dagster dev` has it: what is reloaded in
    the UI is reloaded for the daemon.
    """
    import yaml
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.cli import (
        DEFAULT_DB_STATEMENT_TIMEOUT,
        DEFAULT_POOL_MAX_OVERFLOW,
        DEFAULT_POOL_RECYCLE,
    )

    # keeps connections to PostgreSQL; nothing with SQLite
    instance.optimize_for_webserver(
        DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW
    )
    started = WorkspaceFileTarget([str(workspace)])
    with (
        tempfile.TemporaryDirectory() as folder,
        ProxyServerManager(instance, started, code_server_log_level="WARNING") as servers,
    ):
        file = Path(folder) / "workspace.yaml"
        file.write_text(yaml.safe_dump({"load_from": servers.get_code_server_specs()}))
        loaded = WorkspaceFileTarget([str(file)])
        with WorkspaceProcessContext(instance, loaded, version=dg.__version__) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=2000)
            yield app, file


def forget_run(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # a file a run, which deleting its events only empties
        for suffix in "", "-wal", "-shm":
            Path(storage.path_for_shard(run_id) + suffix).unlink(missing_ok=True)


def is_sqlite_in(instance: dg.DagsterInstance, home: Path) -> bool:
    """Return whether runs and events are in SQLite files below a home."""
    events, runs = instance.event_log_storage, instance.run_storage
    if not (isinstance(events, SqliteEventLogStorage) and isinstance(runs, SqliteRunStorage)):
        return False
    return Path(events.path_for_shard("index")) == home / "history" / "runs" / "index.db"


def add_engine_event(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> None:
    instance.report_engine_event(message, run)


def enqueue(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run.run_id)


def mark_canceling(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    instance.report_run_canceling(run)


# Events


def failures(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, Any, str]]:
    """Return what the log of a run has on its failure: step key, error data, message.

    The message of a step is that of its `dagster.Failure`, if it raised one; that of a blocking
    check which failed names the asset, the check and its description.
    """
    wanted = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.RUN_FAILURE,
        # a run that did not come as far as its first step
        dg.DagsterEventType.ENGINE_EVENT,
    }
    found: list[tuple[str | None, Any, str]] = []
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.get_dagster_event()
        if event.is_step_failure:
            data = event.step_failure_data
            text = data.user_failure_data and data.user_failure_data.description
            if data.error and data.error.cls_name == "DagsterAssetCheckFailedError":
                text = _failed_checks(instance, run_id, event.step_key)
            found.append((_asset_of(event.step_key), data.error, text or ""))
        else:
            error = getattr(event.event_specific_data, "error", None)
            if error or int(entry.level) >= logging.ERROR:
                found.append((None, error, event.message or ""))
    return found


def _failed_checks(instance: dg.DagsterInstance, run_id: str, step_key: str | None) -> str:
    return "; ".join(
        f"{one.asset_key.to_user_string()} was refused by its check {one.check_name}: "
        f"{one.description or 'failed'}"
        for one in check_evaluations(instance, run_id, step_key)
        if one.blocking and not one.passed and one.severity is dg.AssetCheckSeverity.ERROR
    )


# What a step reads


def input_id(context: dg.AssetExecutionContext, key: dg.AssetKey) -> int | None:
    """Return the place in the event log of the materialization of a direct input to read.

    Dagster fixes it when the step starts, and records it as provenance.
    """
    info = context.get_step_execution_context().maybe_fetch_and_get_input_asset_version_info(key)
    return info.storage_id if info else None


def input_of(context: dg.InputContext) -> tuple[dg.DagsterInstance, int | None, bool]:
    """Return where an input that an IO manager loads is recorded, and whether a check reads it.

    That is the instance, and the place in the event log: None outside of a run.
    """
    if (step := context._step_context) is None:  # noqa: SLF001
        return context.instance, None, False
    info = step.maybe_fetch_and_get_input_asset_version_info(context.asset_key)
    return step.instance, info.storage_id if info else None, not step.get_output_asset_keys()


# Checks


def check_results(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, limit: int = 1000
) -> list[dg.AssetCheckEvaluation]:
    """Return a check's results, newest first."""
    status = AssetCheckExecutionRecordStatus
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=limit, status={status.SUCCEEDED, status.FAILED}
    )
    return [
        one.event.asset_check_evaluation
        for one in history
        if one.event and one.event.asset_check_evaluation
    ]


def check_evaluations(
    instance: dg.DagsterInstance, run_id: str, step_key: str | None = None
) -> list[dg.AssetCheckEvaluation]:
    """Return the results of checks in a run, or in one step of it."""
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [
        one
        for log in logs
        if step_key in {None, log.step_key} and (one := log.asset_check_evaluation)
    ]


# Storage


def value(instance: dg.DagsterInstance, key: str) -> str | None:
    """Return the text stored under a key in the key-value table of Dagster's database."""
    return instance.daemon_cursor_storage.get_cursor_values({key}).get(key)


def set_value(instance: dg.DagsterInstance, key: str, text: str) -> None:
    instance.daemon_cursor_storage.set_cursor_values({key: text})


def values(instance: dg.DagsterInstance, prefix: str) -> dict[str, str]:
    """Return the texts of that table whose keys begin with a prefix, by key."""
    table, storage = KeyValueStoreTable, cast("SqlRunStorage", instance.run_storage)
    ours = table.select().where(table.c.key.startswith(prefix, autoescape=True))
    with storage.connect() as connection:
        return {row.key: row.value for row in connection.execute(ours)}


def remove_values(instance: dg.DagsterInstance, keys: Collection[str]) -> None:
    """Remove keys of that table."""
    table, storage = KeyValueStoreTable, cast("SqlRunStorage", instance.run_storage)
    with storage.connect() as connection:
        for key in keys:
            connection.execute(table.delete().where(table.c.key == key))


def postgres_url(instance: dg.DagsterInstance) -> str | None:
    return getattr(instance.run_storage, "postgres_url", None)
