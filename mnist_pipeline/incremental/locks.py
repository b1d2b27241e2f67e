"""Locks that are released when their holder dies: the interface, and locks of files in a folder."""

import atexit
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Protocol

import dagster as dg
from filelock import FileLock, Timeout

from . import _dagster
from .errors import StoreError
from .store import Store

Confirm = Callable[[], None]
"""Returns while a lock is held for certain; raises HistoryError where it was lost."""

_LEFT_SECONDS = 86_400.0


class Locks(Protocol):
    """The interface of both kinds of locks."""

    def claim(self) -> str:
        """Return the token of this process: a lock that it holds until it ends or is killed."""

    def lives(self, token: str, host: str) -> bool | None:
        """Whether the process with a token, on a host, is alive; None where that is not known."""

    def hold(self, name: str, waiting: Callable[[], None]) -> AbstractContextManager[Confirm]:
        """Hold a lock; where another process holds it, call `waiting` and wait."""


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

    Every method raises StoreError where the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self) -> str:
        """Hold a file until this process ends; its path is the token."""
        # a forked process does not hold what its parent holds
        return _claimed(self._folder / ".owners", os.getpid()).lock_file

    def lives(self, token: str, host: str) -> bool | None:
        """Whether the file that is the token is held."""
        file = Path(token)
        if not file.is_absolute():
            return None  # a token of another kind of lock
        if file.exists():
            return _is_held(file)
        # the file of a process that ended is gone
        return False if host == socket.gethostname() and file.parent.is_dir() else None

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None]) -> Iterator[Confirm]:
        """Hold a file for as long as this process lives."""
        lock = _lock(self._folder / ".locks" / f"{name.replace('/', '-')}.lock")
        try:
            _acquire(lock, timeout=0)
        except Timeout:
            waiting()
            _acquire(lock)
        try:
            yield lambda: None
        finally:
            lock.release()


@cache
def _claimed(folder: Path, process: int) -> FileLock:
    for left in folder.glob("*.lock"):
        # a run worker ends without its exit handlers
        if time.time() - left.stat().st_mtime > _LEFT_SECONDS and not _is_held(left):
            left.unlink(missing_ok=True)
    lock = _lock(folder / f"{process}-{uuid.uuid4().hex}.lock")
    _acquire(lock)
    atexit.register(_unlink, lock, process)
    return lock


def _unlink(lock: FileLock, process: int) -> None:
    if os.getpid() == process:
        Path(lock.lock_file).unlink(missing_ok=True)


def _lock(file: Path) -> FileLock:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # not for one thread of this process alone
        return FileLock(file, thread_local=False)
    except OSError as error:
        raise StoreError(
            f"the folder of locks {file.parent} cannot be used: {error.strerror} ({error.filename})"
        ) from None


def _acquire(lock: FileLock, timeout: float = -1) -> None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise StoreError(
            f"the lock {lock.lock_file} cannot be written: {error.strerror}. Make the folder of "
            "the store writable."
        ) from None


def _is_held(file: Path) -> bool:
    try:
        with _lock(file).acquire(timeout=0):
            return False
    # where the file cannot be written, the answer is not known
    except OSError:
        return True
