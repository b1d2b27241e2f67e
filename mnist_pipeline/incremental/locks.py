"""Locks that are released when their holder dies: those of files, and which kind a store has."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg
from filelock import FileLock, Timeout

from . import _dagster
from .errors import StoreError
from .store import Store

if TYPE_CHECKING:
    from .postgres_locks import PostgresLocks

Locks: TypeAlias = "FileLocks | PostgresLocks"

Confirm = Callable[[], None]
"""Returns while a lock is held for certain; raises HistoryError where it was lost."""

_LEFT_SECONDS = 86_400.0


def locks_of(instance: dg.DagsterInstance, store: Store | None = None) -> Locks:
    """Return the locks of a store: files, or locks of the PostgreSQL server with the history.

    `lives` needs no store.
    """
    url = _dagster.postgres_url(instance)
    if url is None:
        return FileLocks(store.locks if store else Path())
    from .postgres_locks import PostgresLocks

    return PostgresLocks(url, str(store.root).rstrip("/") if store else "")


class FileLocks:
    """Locks of files in a folder, for all processes of a machine.

    `claim` and `hold` raise StoreError where the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self) -> str:
        """Hold a file until this process ends or is killed; return its path, the token."""
        # a forked process does not hold what its parent holds
        return _claimed(self._folder / ".owners", os.getpid()).lock_file

    def lives(self, token: str, host: str) -> bool | None:
        """Whether the process with a token, on a host, is alive; None where that is not known."""
        file = Path(token)
        if not file.is_absolute():
            return None  # a token of another kind of lock
        if file.exists():
            return _is_held(file)
        # removed long after its process ended
        return False if host == socket.gethostname() and file.parent.is_dir() else None

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None]) -> Iterator[Confirm]:
        """Hold a file; where another process holds it, call `waiting` and wait."""
        file = self._folder / ".locks" / f"{name.replace('/', '-')}.lock"
        try:
            lock = _acquired(file, timeout=0)
        except Timeout:
            waiting()
            lock = _acquired(file)
        try:
            yield lambda: None
        finally:
            lock.release()


@cache
def _claimed(folder: Path, process: int) -> FileLock:
    for left in folder.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS and not _is_held(left):
                left.unlink()
    return _acquired(folder / f"{process}-{uuid.uuid4().hex}.lock")


def _acquired(file: Path, timeout: float = -1) -> FileLock:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # not for one thread of this process alone
        lock = FileLock(file, thread_local=False)
        lock.acquire(timeout)
    except Timeout:
        raise
    except OSError as error:
        raise StoreError(
            f"the lock {file} cannot be used: {error.strerror} ({error.filename}). Make the folder "
            "of the store writable."
        ) from None
    return lock


def _is_held(file: Path) -> bool:
    try:
        _acquired(file, timeout=0).release()
    # where the file cannot be written, the answer is not known
    except (Timeout, StoreError):
        return True
    return False
