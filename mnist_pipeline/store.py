"""The store: immutable artifacts under `<root>/<asset>/<data version>/<file>`, digest beside each.

It knows bytes and names, neither Dagster nor what is in a file.
"""

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline import durable
from mnist_pipeline.errors import StoreError

SUMS = "SHA256SUMS"
"""Beside each file, in the format of `sha256sum -c`."""

_SUMS_BYTES = 1000

LEFT_SECONDS = 3600.0
"""Age after which an unfinished folder is one that its writer left behind."""


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

    def publish(
        self,
        asset: str,
        data_version: str,
        filename: str,
        data: bytes,
        is_known: Callable[[str], bool] = lambda sha256: True,
    ) -> Artifact:
        """Publish bytes as a version of an asset, and return what the store holds of it.

        The same version with valid bytes stays as it is; a damaged one, or a foreign one, is set
        aside as `<data version>.damaged-<n>`. What writers left behind is swept.

        Parameters
        ----------
        asset, data_version, filename : str
        data : bytes
        is_known : callable
            Says of the SHA-256 of other bytes, which lie there under that name, whether they were
            ever published. Whoever can write to the store can put some there.

        Raises
        ------
        StoreError
            The disk is full or refuses to write. Nothing that was there is lost.
        """
        folder = self.root / asset / data_version
        beside = self.root / asset / f".{data_version}.{uuid.uuid4().hex}.tmp"
        try:
            if not folder.parent.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                durable.sync(self.root)
            with durable.locked(self.root / f".{asset}.lock"):
                _sweep(folder.parent)
                there = self.find(asset, data_version)
                sha256 = hashlib.sha256(data).hexdigest()
                if (
                    there
                    and there.path.name == filename
                    and (there.sha256 == sha256 or is_known(there.sha256))
                ):
                    return there
                beside.mkdir()
                durable.write(beside / filename, data)
                sums = f"{sha256}  {filename}\n"
                durable.write(beside / SUMS, sums.encode())
                durable.sync(beside)
                if os.path.lexists(folder):
                    _set_aside(folder)
                beside.rename(folder)
                durable.sync(folder.parent)
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
            if (durable.size(folder / SUMS) or _SUMS_BYTES) >= _SUMS_BYTES:
                return None
            sha256, filename = (folder / SUMS).read_text("utf-8").split()
            if Path(filename).name != filename:
                return None  # it leads elsewhere
            path = folder / filename
            if (size := durable.size(path)) is None:
                return None
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return None
        return Artifact(asset, data_version, path, size, sha256) if found == sha256 else None

    def size(self, artifact: Artifact) -> int | None:
        """Return how many bytes an artifact has, without reading them, or None if it is gone."""
        return durable.size(artifact.path)

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified against the size and digest once recorded.

        Raises
        ------
        StoreError
            The artifact is gone or damaged; the message names the asset to materialize.
        """
        asset, path = artifact.asset, artifact.path
        try:
            size = durable.size(path)
            # what has another size is not read, however large
            data = path.read_bytes() if size == artifact.size else b""
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}. Mend that first.") from error
        if size is None:
            raise StoreError(
                f"{asset} is gone from the store: {path} does not exist. Materialize {asset}."
            )
        found = hashlib.sha256(data).hexdigest() if size == artifact.size else "not looked at"
        if found != artifact.sha256:
            raise StoreError(
                f"{asset} is damaged: {path} has {size:,} bytes with sha256 {found}, recorded "
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
            with durable.locked(self.root / f".{asset}.lock"):
                kept = keep()
                found = [
                    Leftover(path, durable.size_inside(path))
                    for path in sorted(folder.iterdir())
                    if path.name not in kept and _is_made_here(path)
                ]
                for leftover in found if remove else []:
                    durable.remove(leftover.path)
        except OSError as error:
            raise StoreError(f"cannot clear {error.filename}: {error.strerror}") from error
        return found


def _is_made_here(folder: Path) -> bool:
    # nobody writes while the asset is locked: an unfinished folder was left there
    unfinished = folder.name.startswith(".") and folder.suffix == ".tmp" and folder.is_dir()
    set_aside = re.search(r"\.damaged-\d+$", folder.name) is not None
    return unfinished or set_aside or (folder / SUMS).exists()


def _sweep(folder: Path) -> None:
    for left in folder.glob(".*.tmp"):
        if time.time() - left.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _set_aside(folder: Path) -> None:
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.damaged-{number}")):
        number += 1
    folder.rename(aside)
