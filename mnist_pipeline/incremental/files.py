"""Files as they really are: on disk when they seem to be, and of what kind and size.

Written beside, flushed, renamed, by one at a time. It knows nothing of what is in them.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a new file and flush it to disk; there must be none yet."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def move(file: Path, path: Path) -> None:
    """Move a finished file, from whatever disk, to where there must be none yet, and flush it."""
    shutil.move(file, path)
    sync(path)


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256, in hexadecimal digits, of bytes or of a file, which may be large."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush the names in a folder, or the bytes in a file, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Replace a file by one with other bytes, all at once; what a killed writer left is removed."""
    with locked(path.with_name(f".{path.name}.lock")):
        beside = path.with_name(f".{path.name}.tmp")
        beside.unlink(missing_ok=True)
        write(beside, data)
        beside.replace(path)
        sync(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one holder of a lock file at a time go on; the lock of one that died is free again."""
    with path.open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def size(path: Path) -> int | None:
    """Return the size of a file, or None where there is no regular file."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def size_inside(path: Path) -> int:
    """Return the size of a file, or of those in a folder."""
    # a link counts as what it is, wherever it leads
    inside = path.iterdir() if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in inside)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sweep(folder: Path, seconds: float) -> None:
    """Remove the unfinished folders in a folder that are older than that, as far as possible."""
    for left in folder.glob(".*.tmp"):
        if time.time() - left.stat().st_mtime > seconds:
            shutil.rmtree(left, ignore_errors=True)


def set_aside(path: Path) -> None:
    """Rename what is there to the first free `<name>.damaged-<n>`."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    path.rename(aside)
