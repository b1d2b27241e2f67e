"""The Dagster instance of a pipeline: its home folder, opened by one process at a time."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock

from . import files, sqlite
from .errors import HistoryError, SettingsError

_GENERATED = "# Generated. Delete this line to edit the file yourself.\n"
_OF_EARLIER_VERSIONS = "# Made by mnist-pipeline from the project's dagster.yaml."


@contextlib.contextmanager
def opened(home: Path, template: Path | None = None) -> Iterator[dg.DagsterInstance]:
    """Open the instance in a home folder, which is created if needed; set `DAGSTER_HOME` to it.

    The `dagster.yaml` that is the template is copied into the home, without the parts that name its
    folder of SQLite: these are in the home by default. Without a template, telemetry is off, runs
    leave the queue within a second, and crashed runs are retried. A file in the home that was
    edited by hand stays.

    Raises SettingsError if the folder cannot be created or written; HistoryError if the disk with
    Dagster's history is full, its database damaged, or its server gone.
    """
    prepare(home, template)
    with as_history_error(home), _instance(home) as instance:
        yield instance


@contextlib.contextmanager
def as_history_error(home: Path) -> Iterator[None]:
    """Raise HistoryError, which names the home, in place of an error of the history's database."""
    try:
        yield
    except Exception as error:
        if found := _of_history(error, home):
            raise HistoryError(found) from error
        raise


def prepare(home: Path, template: Path | None) -> None:
    """Create the home with its `dagster.yaml` and set `DAGSTER_HOME`. Raises as `opened` does."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        _write_config(home, template)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise HistoryError(
                f"no room for Dagster's history in {home}: make room there"
            ) from None
        raise SettingsError(
            f"DAGSTER_HOME: cannot use {home}: {error.strerror} ({error.filename})"
        ) from None
    os.environ["DAGSTER_HOME"] = str(home)


def _write_config(home: Path, template: Path | None) -> None:
    import yaml

    config = yaml.safe_load(template.read_text("utf-8")) if template else _DEFAULT
    folder = config.get("storage", {}).get("sqlite", {}).get("base_dir")
    parts = {name: part for name, part in config.items() if not (folder and _names(part, folder))}
    text = _GENERATED + yaml.safe_dump(parts, sort_keys=False)
    file = home / "dagster.yaml"
    before = file.read_text("utf-8") if file.exists() else _GENERATED
    if before != text and before.startswith((_GENERATED, _OF_EARLIER_VERSIONS)):
        files.replace(file, text.encode())


def _names(part: Any, folder: str) -> bool:
    """Return whether a part of a configuration holds a path in a folder."""
    if isinstance(part, dict):
        return any(_names(value, folder) for value in part.values())
    return isinstance(part, str) and Path(part).is_relative_to(folder)


_DEFAULT: dict[str, Any] = {
    "telemetry": {"enabled": False},
    "run_coordinator": {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
    "run_retries": {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False},
}


def _instance(home: Path) -> dg.DagsterInstance:
    try:
        # two processes that create Dagster's tables at once fail
        with FileLock(home / ".opening.lock"), sqlite.kept_open(home):
            return dg.DagsterInstance.get()
    except OSError as error:
        why = f"{error.strerror} ({error.filename})"
        raise HistoryError(f"Dagster's history in {home} cannot be written: {why}") from None


def _of_history(error: BaseException, home: Path) -> str | None:
    """Return a message for an error of the history's database, or None for any other error."""
    import sqlalchemy.exc

    while type(error).__name__ == "DagsterPostgresException" and error.__cause__:
        error = error.__cause__  # it tried several times
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return None
    why = " ".join(str(error.orig).split())
    where, repair = f"in {home}", "Make room there or repair it"
    if type(error.orig).__module__.startswith("psycopg2"):
        # `why` names host and port, never the password
        config = home / "dagster.yaml"
        where, repair = "in PostgreSQL", f"Start the server or correct {config}"
    elif "locked" in why:
        return f"Dagster's history {where} is busy: {why}. Try again when fewer processes use it."
    return (
        f"Dagster's history {where} cannot be used: {why}. {repair}, then try again; what was "
        "published is still there."
    )
