"""Locks that are free when their holder dies: what they do, and those of files in a folder.

They know tokens of processes and names, neither runs nor what is done under a lock.
"""

import atexit
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from mnist_pipeline.incremental.errors import StoreError

Confirm = Callable[[], None]
"""Returns while a lock is held for certain; raises where it was lost."""

_LEFT_SECONDS = 86_400.0


class Locks(Protocol):
    """What both kinds of locks do."""

    def claim(self) -> str:
        """Return the token of this process; it is held until the process ends or is killed."""

    def lives(self, token: str, host: str) -> bool | None:
        """Whether the process with a token, on a host, lives; None where nobody can tell."""

    def hold(self, name: str, waiting: Callable[[], None]) -> AbstractContextManager[Confirm]:
        """Hold a lock; if somebody else does, call `waiting` and wait for him."""

    def is_held(self, name: str) -> bool:
        """Whether somebody holds a lock, or nobody can tell."""


class FileLocks:
    """Locks of files in a folder, seen by all processes of a machine that can reach it.

    Every method raises StoreError where the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self) -> str:
        """Hold a file of this process's own; its path is the token."""
        folder = self._folder / ".owners"
        if folder not in _held:
            for left in folder.glob("*.lock"):
                # a run worker ends without its exit handlers
                if time.time() - left.stat().st_mtime > _LEFT_SECONDS and not _is_held(left):
                    left.unlink(missing_ok=True)
            lock = _lock(folder / f"{os.getpid()}-{uuid.uuid4().hex}.lock")
            _acquire(lock)
            _held[folder] = lock
            atexit.register(Path(lock.lock_file).unlink, missing_ok=True)
        return _held[folder].lock_file

    def lives(self, token: str, host: str) -> bool | None:
        """Whether the file that is the token is held."""
        file = Path(token)
        if not file.is_absolute():
            return None  # of locks of another kind
        if file.exists():
            return _is_held(file)
        # the file of a process that ended is gone
        return False if host == socket.gethostname() and file.parent.is_dir() else None

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None]) -> Iterator[Confirm]:
        """Hold a file for as long as this process lives."""
        lock = _lock(self._folder / f".{name}.lock")
        try:
            _acquire(lock, timeout=0)
        except Timeout:
            waiting()
            _acquire(lock)
        try:
            yield lambda: None
        finally:
            lock.release()

    def is_held(self, name: str) -> bool:
        """Whether a process holds the file."""
        return _is_held(self._folder / f".{name}.lock")


_held: dict[Path, FileLock] = {}


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
