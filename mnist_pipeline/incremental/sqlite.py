"""The SQLite files of a home, kept open while this process works with them.

Dagster opens a connection for each statement. SQLite waits for the disk at each commit, and three
times when the last connection to a file closes: 2,000 times in a run of eight assets.
"""

import atexit
import contextlib
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

_MOST = 8
"""Files that are kept open: those of runs and events, and of the last runs that were used."""

_lock = threading.Lock()
_homes: Counter[Path] = Counter()
_open: OrderedDict[str, sqlite3.Connection] = OrderedDict()


@contextlib.contextmanager
def kept_open(home: Path) -> Iterator[None]:
    """Keep the files below a home open once Dagster used them; commits do not wait for the disk.

    At the end, all is on the disk. If the machine crashes before, the last commits may be missing,
    and the files are whole (https://sqlite.org/pragma.html#pragma_synchronous).
    """
    home = home.resolve()
    with _lock:
        if not _homes:
            event.listen(Engine, "connect", _connected)
        _homes[home] += 1
    try:
        yield
    finally:
        with _lock:
            _homes[home] -= 1
            if not _homes[home]:
                del _homes[home]
                for file in [one for one in _open if Path(one).is_relative_to(home)]:
                    _close(_open.pop(file))
            if not _homes:
                event.remove(Engine, "connect", _connected)


def keep_open(home: Path) -> None:
    """Do as `kept_open` until this process ends."""
    stack = contextlib.ExitStack()
    stack.enter_context(kept_open(home))
    atexit.register(stack.close)


def _connected(connection: Any, _: object) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file not in _open:
        if not any(Path(file).is_relative_to(home) for home in tuple(_homes)):
            return
        # as Dagster sets it once a file has its tables; without it, a crash may damage the file
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            return
    connection.execute("PRAGMA synchronous = NORMAL")
    with _lock:
        if file not in _open:
            _open[file] = sqlite3.connect(file, check_same_thread=False)
            # the log is opened by the first read
            _open[file].execute("PRAGMA schema_version").fetchall()
        _open.move_to_end(file)
        if len(_open) > _MOST:
            _close(_open.popitem(last=False)[1])


def _close(connection: sqlite3.Connection) -> None:
    # it is the last connection only if no other process uses the file; if the disk is full, the
    # log keeps what it has
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint").fetchall()
    connection.close()
