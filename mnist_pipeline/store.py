"""The store: immutable artifacts under `<root>/<asset>/<data version>/<file>`, digest beside each.

It knows bytes and names, neither Dagster nor what is in a file.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.errors import StoreError

SUMS = "SHA256SUMS"
"""Beside each file, in the format of `sha256sum -c`."""


@dataclass(frozen=True)
class Artifact:
    """A published file: where it is, and what its bytes must be."""

    asset: str
    data_version: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Leftover:
    """A folder in the store that is not kept: an old version, a damaged or an unfinished one."""

    path: Path
    size: int


class Store:
    """Artifacts in a local folder.

    An artifact appears whole or not at all: file and digest are written in a folder beside,
    flushed to disk, and the folder is renamed. What is published is never changed. Publishers of
    the same asset, also in other processes, wait for one another; readers never wait.

    Parameters
    ----------
    root : Path
        The folder, made when the first artifact is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, asset: str, data_version: str, filename: str, data: bytes) -> Artifact:
        """Publish bytes as a version of an asset, and return what the store holds of it.

        The same version with valid bytes stays as it is; a damaged one is set aside as
        `<data version>.damaged-<n>`.

        Raises
        ------
        StoreError
            The disk is full or refuses to write. Nothing that was there is lost.
        """
        folder = self.root / asset / data_version
        beside = self.root / asset / f".{data_version}.{uuid.uuid4().hex}.tmp"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / f".{asset}.lock"):
                if there := self.find(asset, data_version):
                    return there
                beside.mkdir()
                _write(beside / filename, data)
                sums = f"{hashlib.sha256(data).hexdigest()}  {filename}\n"
                _write(beside / SUMS, sums.encode())
                _sync(beside)
                if folder.exists():
                    _set_aside(folder)
                beside.rename(folder)
                _sync(folder.parent)
            there = self.find(asset, data_version)
        except OSError as error:
            raise StoreError(
                f"cannot write {folder / filename}: {error.strerror}. Nothing was published; make "
                "room or mend the permissions there, then materialize again."
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        if there is None:
            raise StoreError(f"{folder} does not keep what is written to it: is the disk sound?")
        return there

    def find(self, asset: str, data_version: str) -> Artifact | None:
        """Return the artifact of this version if its bytes are those once published, else None.

        Raises
        ------
        OSError
            It is there and cannot be read.
        """
        folder = self.root / asset / data_version
        try:
            sha256, filename = (folder / SUMS).read_text("utf-8").split()
            data = (folder / filename).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        return Artifact(asset, data_version, folder / filename, len(data), sha256)

    def size(self, artifact: Artifact) -> int | None:
        """Return how many bytes an artifact has, without reading them, or None if it is gone."""
        try:
            return artifact.path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified against the size and digest once recorded.

        Raises
        ------
        StoreError
            The artifact is gone or damaged; the message names the asset to materialize.
        """
        asset, path = artifact.asset, artifact.path
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"{asset} is gone from the store: {path} does not exist. Materialize {asset}."
            ) from None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}. Mend that first.") from error
        found = hashlib.sha256(data).hexdigest()
        if (len(data), found) != (artifact.size, artifact.sha256):
            raise StoreError(
                f"{asset} is damaged: {path} has {len(data):,} bytes with sha256 {found}, recorded "
                f"were {artifact.size:,} with {artifact.sha256}. Materialize {asset}; the damaged "
                "file is set aside."
            )
        return data

    def holds(self, asset: str) -> bool:
        """Whether any version of an asset is there."""
        return any((self.root / asset).glob(f"*/{SUMS}"))

    def leftovers(
        self, asset: str, keep: Callable[[], Collection[str]], *, remove: bool
    ) -> list[Leftover]:
        """Return an asset's folders that are not of the kept versions; remove them if asked.

        Parameters
        ----------
        asset : str
        keep : callable
            Returns the data versions to keep. It is called while nobody can publish one.
        remove : bool

        Raises
        ------
        StoreError
            A folder cannot be read or removed.
        """
        folder = self.root / asset
        if not folder.is_dir():
            return []
        try:
            with _locked(self.root / f".{asset}.lock"):
                kept = keep()
                found = [
                    Leftover(path, sum(file.stat().st_size for file in path.iterdir()))
                    for path in sorted(folder.iterdir())
                    if path.name not in kept and _is_made_here(path)
                ]
                for leftover in found if remove else []:
                    shutil.rmtree(leftover.path)
        except OSError as error:
            raise StoreError(f"cannot clear {error.filename}: {error.strerror}") from error
        return found


def _is_made_here(folder: Path) -> bool:
    # nobody writes while the asset is locked: an unfinished folder was left there
    unfinished = folder.name.startswith(".") and folder.suffix == ".tmp" and folder.is_dir()
    return unfinished or (folder / SUMS).exists()


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one publisher at a time go on; the lock of one that died is free again."""
    with path.open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _set_aside(folder: Path) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    folder.rename(aside)
