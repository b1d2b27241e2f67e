"""Durable file operations: atomic writes and flushes to disk."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from pathlib import Path

LEFT_SECONDS = 3600.0
"""Age in seconds after which a temporary file belongs to a process that was killed."""

_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256, as 64 hex digits, of bytes or of a file, which may be large."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary(path: Path) -> Path:
    """Return a unique hidden name beside `path`, for a file that is renamed when complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def is_left_behind(path: Path) -> bool:
    """Return whether this is a temporary file or folder that a killed process left."""
    if re.fullmatch(r"\..+\.[0-9a-f]{32}\.tmp", path.name) is None:
        return False
    return time.time() - path.lstat().st_mtime > LEFT_SECONDS


def write(path: Path, data: bytes | Path) -> None:
    """Write bytes to a file, or move a finished file there, and flush it to disk."""
    if isinstance(data, Path):
        os.utime(data)  # `is_left_behind` looks at its age
        shutil.move(os.path.realpath(data), path)
    else:
        path.write_bytes(data)
    sync(path)


def sync(path: Path) -> None:
    """Flush the names in a folder, or the bytes of a file, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder with its parents, flushed to disk; an existing one is left as it is."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def replace(path: Path, data: bytes, like: Path | None = None) -> None:
    """Replace a file by one with other bytes, all at once, with its permissions or `like`'s."""
    beside = temporary(path)
    try:
        write(beside, data)
        with contextlib.suppress(FileNotFoundError):
            beside.chmod(stat.S_IMODE((like or path).stat().st_mode))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def is_folder(path: Path) -> bool:
    """Return whether this is a folder itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None for anything else, links too."""
    try:
        found = path.lstat()
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; a folder vanishes all at once."""
    with contextlib.suppress(FileNotFoundError):
        if is_folder(path):
            path = path.rename(temporary(path))
            shutil.rmtree(path)
        else:
            path.unlink()
