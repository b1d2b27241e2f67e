"""The store: immutable artifacts under `<root>/<asset>/<data version>/<file>`, digest beside each.

It knows bytes and names, neither Dagster nor what is in a file.
"""

import contextlib
import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from mnist_pipeline.incremental import artifacts, files
from mnist_pipeline.incremental.artifacts import SUMS, Artifact, Leftover, Place
from mnist_pipeline.incremental.errors import StoreError

__all__ = ["LEFT_SECONDS", "SUMS", "Artifact", "Leftover", "Store", "open_store"]

LEFT_SECONDS = 3600.0
"""Age after which an unfinished folder is one that its writer left behind."""


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

    root: Place
    """Where the artifacts are."""
    locks: Path
    """The local folder for the lock files of those who work on the store."""

    def __init__(self, root: Path) -> None:
        self.root = self.locks = self._folder = root

    def publish(
        self,
        asset: str,
        data_version: str,
        filename: str,
        data: bytes | Path,
        is_known: Callable[[str], bool] = lambda sha256: True,
    ) -> Artifact:
        """Publish a file as a version of an asset, and return what the store holds of it.

        The same version with valid bytes stays as it is; a damaged one, or a foreign one, is set
        aside as `<data version>.damaged-<n>`. What writers left behind is swept.

        Parameters
        ----------
        asset, data_version, filename : str
        data : bytes or Path
            Its bytes, or a finished local file with them, of any size. That file is moved, or no
            longer needed: whoever made it must not use it afterwards.
        is_known : callable
            Says of the SHA-256 of other bytes, which lie there under that name, whether they were
            ever published. Whoever can write to the store can put some there.

        Raises
        ------
        StoreError
            The disk is full or refuses to write. Nothing that was there is lost.
        """
        folder = self._folder / asset / data_version
        beside = self._folder / asset / f".{data_version}.{uuid.uuid4().hex}.tmp"
        try:
            if not folder.parent.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                files.sync(self._folder)
            with files.locked(self._folder / f".{asset}.lock"):
                files.sweep(folder.parent, LEFT_SECONDS)
                there = self.find(asset, data_version)
                sha256 = files.sha256(data)
                if (
                    there
                    and there.path.name == filename
                    and (there.sha256 == sha256 or is_known(there.sha256))
                ):
                    return there
                beside.mkdir()
                if isinstance(data, Path):
                    files.move(data, beside / filename)
                else:
                    files.write(beside / filename, data)
                files.write(beside / SUMS, artifacts.sums_of(sha256, filename))
                files.sync(beside)
                if os.path.lexists(folder):
                    files.set_aside(folder)
                beside.rename(folder)
                files.sync(folder.parent)
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
        folder = self._folder / asset / data_version
        try:
            if (files.size(folder / SUMS) or artifacts.SUMS_BYTES) >= artifacts.SUMS_BYTES:
                return None
            sha256, filename = artifacts.read_sums((folder / SUMS).read_bytes())
            path = folder / filename
            if (size := files.size(path)) is None:
                return None
            found = files.sha256(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return None
        return Artifact(asset, data_version, path, size, sha256) if found == sha256 else None

    def size(self, artifact: Artifact) -> int | None:
        """Return how many bytes an artifact has, without reading them, or None if it is gone."""
        return files.size(Path(str(artifact.path)))

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified against the size and digest once recorded.

        Raises
        ------
        StoreError
            The artifact is gone or damaged; the message names the asset to materialize.
        """
        with _readable(artifact), _opened(artifact) as file:
            data = file.read()
        if (found := files.sha256(data)) != artifact.sha256:
            raise artifacts.damaged(artifact, len(data), found)
        return data

    @contextlib.contextmanager
    def reader(self, artifact: Artifact) -> Iterator[BinaryIO]:
        """Open an artifact to read any part of it, when its size and digest are as recorded.

        It raises what `read` does.
        """
        with contextlib.ExitStack() as stack:
            with _readable(artifact):
                file = stack.enter_context(_opened(artifact))
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != artifact.sha256:
                    raise artifacts.damaged(artifact, file.tell(), found)
                file.seek(0)
            yield file

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give the path of a local file with an artifact's bytes, verified, for as long as needed.

        It raises what `read` does.
        """
        with self.reader(artifact):
            yield Path(str(artifact.path))

    def holds(self, asset: str) -> bool:
        """Whether any version of an asset is there."""
        return any((self._folder / asset).glob(f"*/{SUMS}"))

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
        folder = self._folder / asset
        if not folder.is_dir():
            return []
        try:
            with files.locked(self._folder / f".{asset}.lock"):
                kept = keep()
                found = [
                    path
                    for path in sorted(folder.iterdir())
                    if path.name not in kept and _is_made_here(path)
                ]
                leftovers = [Leftover(path, files.size_inside(path)) for path in found]
                for path in found if remove else []:
                    files.remove(path)
        except OSError as error:
            raise StoreError(f"cannot clear {error.filename}: {error.strerror}") from error
        return leftovers


def open_store(root: Place, *, locks: Path) -> Store:
    """Return the store in a folder, or under an URL; the latter has its lock files in `locks`."""
    if isinstance(root, Path):
        return Store(root)
    from mnist_pipeline.incremental.remote_store import RemoteStore

    return RemoteStore(root, locks)


@contextlib.contextmanager
def _readable(artifact: Artifact) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"cannot read {artifact.path}: {error.strerror}. Mend that first."
        raise StoreError(text) from error


def _opened(artifact: Artifact) -> io.BufferedReader:
    """Open a file of the size that was recorded: what has another is not read, however large."""
    path = Path(str(artifact.path))
    if (size := files.size(path)) is None:
        raise artifacts.gone(artifact)
    if size != artifact.size:
        raise artifacts.damaged(artifact, size, None)
    return path.open("rb")


def _is_made_here(folder: Path) -> bool:
    # nobody writes while the asset is locked: an unfinished folder was left there
    unfinished = folder.name.startswith(".") and folder.suffix == ".tmp" and folder.is_dir()
    set_aside = re.search(r"\.damaged-\d+$", folder.name) is not None
    return unfinished or set_aside or (folder / SUMS).exists()
