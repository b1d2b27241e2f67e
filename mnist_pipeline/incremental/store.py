"""The store: files named by their content, `<root>/<asset>/<sha256 of the file>/<file>`.

The name proves the bytes. So writing a file twice is harmless, verifying one needs no record, and
writers need no lock.
"""

import contextlib
import hashlib
import io
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from . import files
from .errors import StoreError


class BucketPath(PurePosixPath):
    """A path in a bucket, as in `BucketPath("bucket/prefix/file")`; its text is a URL."""

    def __str__(self) -> str:
        return f"s3://{super().__str__()}"


StorePath: TypeAlias = Path | BucketPath
"""A path in a local folder or in a bucket."""


class DamagedError(StoreError):
    """An artifact is missing or its bytes are not the recorded ones: materialize it again."""


@dataclass(frozen=True)
class Artifact:
    """A file in the store, existing or not.

    `asset` is its asset's key as text, `sha256` 64 hex digits, `size` in bytes, `path` the full
    path.
    """

    asset: str
    sha256: str
    filename: str
    size: int
    path: StorePath


@dataclass(frozen=True)
class Garbage:
    """A file or folder in the store that is not needed; `size` in bytes, of all files in it."""

    path: StorePath
    size: int


class Store:
    """Artifacts in a local folder.

    A file is written under a temporary name, flushed to disk and renamed: a process that is killed
    leaves the whole file or none. Any number of processes may publish at once. The folder `root` is
    created when the first artifact is published. All methods raise StoreError where it cannot be
    read or written.
    """

    root: StorePath
    locks: Path
    """A local folder for lock files."""

    def __init__(self, root: Path) -> None:
        self.root = self.locks = self._folder = root

    def __str__(self) -> str:
        """Where it is."""
        return str(self.root)

    def artifact(self, asset: str, sha256: str, filename: str, size: int) -> Artifact:
        """Return an artifact, which need not exist."""
        return Artifact(asset, sha256, filename, size, self.root / asset / sha256 / filename)

    def publish(self, asset: str, filename: str, data: bytes | Path) -> Artifact:
        """Put bytes into the store, or a complete local file of any size, which may be moved.

        What is there intact stays. Nothing half-written is left.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        artifact = self.artifact(asset, files.sha256(data), filename, size)
        with contextlib.suppress(StoreError), self.local(artifact):
            return artifact
        self._write(artifact, data)  # also where what is there cannot be read
        return artifact

    def size(self, artifact: Artifact) -> int | None:
        """Return the size of an artifact in bytes, without reading it; None if it is missing."""
        with _reading(artifact):
            folder = self._folder_of(artifact.asset) / artifact.sha256
            return None if folder.is_symlink() else files.size(folder / artifact.filename)

    def is_intact(self, artifact: Artifact) -> bool:
        """Return whether an artifact is there with the recorded size and digest."""
        try:
            with self.local(artifact):
                return True
        except DamagedError:
            return False

    def read(self, artifact: Artifact) -> bytes:
        """Return the verified bytes of an artifact; DamagedError if it is missing or damaged."""
        with _reading(artifact), self._open(artifact) as file:
            data = file.read()
        check(artifact, len(data), files.sha256(data))
        return data

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give a local file with an artifact's verified bytes, for as long as the context lasts.

        Raises as `read` does.
        """
        with _reading(artifact), self._open(artifact) as file:
            check(artifact, artifact.size, hashlib.file_digest(file, "sha256").hexdigest())
        yield Path(str(artifact.path))

    def holds(self, asset: str) -> bool:
        """Return whether any artifact of an asset is there, also one of the earlier layout."""
        return any(one.size and one.path.name[0] != "." for one in self._recognized(asset))

    def garbage(
        self, asset: str, keep: Callable[[], Collection[str]], *, remove: bool
    ) -> list[Garbage]:
        """Return what of an asset is not kept, and remove it if asked.

        That is artifacts, also of the earlier layout, and temporary files older than an hour.
        `keep` returns the SHA-256 of each artifact to keep; it is called again before each removal.
        """
        kept = keep()
        found = [one for one in self._recognized(asset) if one.path.name not in kept]
        if not remove:
            return found
        removed = []
        with as_store_error("remove"):
            for one in found:
                if one.path.name not in keep():
                    self._remove(one)
                    removed.append(one)
        return removed

    def _open(self, artifact: Artifact) -> io.BufferedReader:
        """Open a file of the recorded size: one of another size is not read, however large."""
        size = self.size(artifact)
        if size is None:
            raise missing(artifact)
        check(artifact, size)
        try:
            return Path(str(artifact.path)).open("rb")
        except FileNotFoundError:  # `gc` removed it meanwhile
            raise missing(artifact) from None

    def _write(self, artifact: Artifact, data: bytes | Path) -> None:
        path = Path(str(artifact.path))
        beside = files.temporary(path.parent.parent / artifact.filename)
        remedy = (
            "Nothing was published; make room or fix the permissions there, then materialize "
            f"{artifact.asset} again."
        )
        try:
            with as_store_error("write", remedy, path):
                files.make_folder(self._folder_of(artifact.asset))
                files.write(beside, data)
                _put(beside, path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()

    def _folder_of(self, asset: str) -> Path:
        """Return the folder of an asset. Raises StoreError where something else is in its place."""
        folder = self._folder / asset
        for path in (folder, *folder.parents):
            if path == self._folder:
                break
            if path.is_symlink():
                raise StoreError(
                    f"{path} is a link: the store reads, writes and removes nothing outside its "
                    "own folder. Put a folder in its place."
                )
            if path.exists() and not path.is_dir():
                raise StoreError(f"{path} is not a folder. Move it away, then try again.")
        return folder

    def _recognized(self, asset: str) -> list[Garbage]:
        """Return everything of an asset that may be garbage."""
        folder = self._folder_of(asset)
        found = []
        with as_store_error("list"):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                # one that leads to no file, as editors' locks are, is left alone
                if path.is_symlink() and path.exists():
                    raise StoreError(f"{path} is a link: the store has none. Remove it.")
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    is_folder = files.is_folder(path)
                    inside = list(path.iterdir()) if is_folder else [path]
                    is_ours = is_folder and is_artifact(path.name, [one.name for one in inside])
                    if is_ours or files.is_left_behind(path):
                        found.append(Garbage(path, sum(one.lstat().st_size for one in inside)))
        return found

    def _remove(self, garbage: Garbage) -> None:
        files.remove(Path(str(garbage.path)))


def open_store(root: StorePath | str, *, locks: Path) -> Store:
    """Open the store in a local folder or under `s3://bucket/prefix`.

    `locks` is the local folder for the lock files of a store in a bucket; a folder has its own.
    """
    if isinstance(root, str):
        url = root.startswith("s3://")
        root = BucketPath(root.removeprefix("s3://")) if url else Path(root)
    if isinstance(root, Path):
        return Store(root)
    from .s3 import S3Store

    return S3Store(root, locks)


def missing(artifact: Artifact) -> DamagedError:
    """Return the error for an artifact without a file."""
    asset = artifact.asset
    return DamagedError(
        f"{asset} is missing from the store: {artifact.path} is not a file. Materialize {asset}."
    )


def check(artifact: Artifact, size: int, sha256: str | None = None) -> None:
    """Raise DamagedError if size or digest differ from the artifact's; no digest, not compared."""
    if size == artifact.size and sha256 in {None, artifact.sha256}:
        return
    found = f"{size:,} bytes with sha256 {sha256}" if sha256 else f"{size:,} bytes, not read"
    raise DamagedError(
        f"{artifact.asset} is damaged: {artifact.path} has {found}, recorded were "
        f"{artifact.size:,} with {artifact.sha256}. Materialize {artifact.asset}."
    )


def is_artifact(name: str, inside: Collection[str]) -> bool:
    """Return whether a folder with these files is an artifact, of this layout or the earlier.

    In the earlier layout that was `<data version>`, and `<data version>.damaged-<n>`.
    """
    if re.fullmatch("[0-9a-f]{32}", name):
        return "SHA256SUMS" in inside
    return re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{32}\.damaged-\d+", name) is not None


@contextlib.contextmanager
def as_store_error(
    what: str, remedy: str = "Fix the permissions there, then try again.", path: object = None
) -> Iterator[None]:
    """Raise an OSError as StoreError: what could not be done, with which path, and what to do."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot {what} {path or error.filename}: {why}. {remedy}") from error


def _reading(artifact: Artifact) -> contextlib.AbstractContextManager[None]:
    return as_store_error("read", "Fix that first.", artifact.path)


def _put(beside: Path, path: Path) -> None:
    """Rename a complete file to its final path, whatever is there, and flush the names."""
    folder = path.parent
    while True:
        if not files.is_folder(folder):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                folder.unlink()
        files.make_folder(folder)
        if files.is_folder(path):
            shutil.rmtree(path, ignore_errors=True)
        try:
            beside.replace(path)
        except FileNotFoundError:
            if not beside.exists():
                raise
            continue  # `garbage` removed the folder in between
        files.sync(folder)
        files.sync(folder.parent)
        return
