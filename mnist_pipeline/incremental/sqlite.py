"""The SQLite files of Dagster's history, kept open while this process writes to them.

Dagster opens a connection for each statement. SQLite waits for the disk at each commit, and three
times when the last connection to a file closes: 2,000 times in a run of eight assets.
"""

import atexit
import contextlib
import os
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from . import files
from .errors import HistoryError

_MOST_FILES = 8
"""Those of runs and events, and of the runs that were used last."""

_FOLDERS = "history", "schedules"
"""In a home, the folders with Dagster's files."""

_lock = threading.Lock()
_homes: Counter[Path] = Counter()
_kept: OrderedDict[str, sqlite3.Connection] = OrderedDict()


@contextlib.contextmanager
def kept_open(home: Path) -> Iterator[None]:
    """Keep Dagster's files in a home open once they are used; commits do not wait for the disk.

    At the end, all is on the disk. If the machine crashes before, the last commits may be missing,
    and the files are whole (https://sqlite.org/pragma.html#pragma_synchronous).

    Raises HistoryError if they cannot be written to the disk.
    """
    home = home.resolve()
    with _lock:
        _homes[home] += 1
    try:
        yield
    finally:
        with _lock:
            _homes[home] -= 1
            if not _homes[home]:
                del _homes[home]
            _close([file for file in _kept if not _is_of_a_kept_home(file)])


def keep_open_until_exit(home: Path) -> None:
    """Do as `kept_open` until this process ends."""
    stack = contextlib.ExitStack()
    stack.enter_context(kept_open(home))
    atexit.register(stack.close)


@event.listens_for(Engine, "connect")
def _connected(connection: Any, _: object) -> None:
    if not (_homes and isinstance(connection, sqlite3.Connection)):
        return
    [path] = connection.execute(
        "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
    ).fetchone()
    file = os.fsdecode(path)
    if not _is_of_a_kept_home(file):
        return
    # as Dagster sets it once a file has its tables; without it, a crash may damage the file
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        return
    connection.execute("PRAGMA synchronous = NORMAL")
    with _lock:
        if file in _kept:
            _kept.move_to_end(file)
            return
    another = sqlite3.connect(file, check_same_thread=False)
    # the log is opened by the first read
    another.execute("PRAGMA schema_version").fetchall()
    with _lock:
        if file in _kept or not _is_of_a_kept_home(file):
            another.close()
            return
        _kept[file] = another
        if len(_kept) > _MOST_FILES:
            _close([next(iter(_kept))])


def _is_of_a_kept_home(file: str) -> bool:
    homes = tuple(_homes)
    return any(Path(file).is_relative_to(home / name) for home in homes for name in _FOLDERS)


def _close(names: Collection[str]) -> None:
    """Close files, with the lock held, when what is in their logs is on the disk."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.callback(_kept.pop(name).close)
        for name in names:
            # SQLite does it when the last connection closes, which may be another process's
            try:
                files.sync(Path(f"{name}-wal"))
                files.sync(Path(name).parent)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HistoryError(
                    f"Dagster's history cannot be written to the disk: {error.strerror} ({name}). "
                    "Repair the disk, then try again."
                ) from error


def _before_fork() -> None:
    # a connection of SQLite may not be used in two processes, and its locks are not inherited
    _lock.acquire()
    _close(list(_kept))


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
)
