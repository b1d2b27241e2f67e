"""The store in a bucket of an S3 server: what its requests are, in which order, and what they mean.

How the server is reached is in `bucket`.
"""

import contextlib
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mnist_pipeline.incremental import artifacts, files
from mnist_pipeline.incremental.artifacts import SUMS, Artifact, Leftover, Place
from mnist_pipeline.incremental.bucket import Bucket, Head
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import LEFT_SECONDS, Store

if TYPE_CHECKING:
    from upath import UPath

UNFINISHED_SECONDS = 60.0
"""Age after which a file without its `SHA256SUMS` is one that its writer left behind."""

_ATTEMPTS = 5
_POLL_SECONDS = 0.2
_BLOCK_BYTES = 8 << 20
_RANGE_BYTES = 256 << 10  # what is read ahead of one column is wasted


class RemoteStore(Store):
    """Artifacts in a bucket, with every promise of the local store.

    A file appears at once, by one request that the server refuses where something is already.
    `SHA256SUMS` comes last, and only with it a version counts as found. What is published is never
    overwritten: what is damaged or foreign is copied aside first, by the server.

    Parameters
    ----------
    root : UPath
        `s3://bucket/prefix`.
    locks : Path
        The local folder for the lock files of those who work on the store.

    All methods raise a StoreError where the server cannot be reached or refuses.
    """

    root: "UPath"

    def __init__(self, root: "UPath", locks: Path) -> None:
        self.root = root
        self.locks = locks
        self._bucket = Bucket(str(root))

    def publish(
        self,
        asset: str,
        data_version: str,
        filename: str,
        data: bytes | Path,
        is_known: Callable[[str], bool] = lambda sha256: True,
    ) -> Artifact:
        """Do as `Store.publish`.

        A file that a killed writer left without `SHA256SUMS` is taken over if its bytes are these,
        else set aside once it is a minute old.

        Raises
        ------
        StoreError
            Others kept publishing the same. Nothing that was there is lost.
        """
        sha256 = files.sha256(data)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        sums = artifacts.sums_of(sha256, filename)
        path = (folder := self.root / asset / data_version) / filename
        attempts = 0
        while attempts < _ATTEMPTS:
            occupied, there = self._look(asset, data_version)
            if (
                there
                and there.path.name == filename
                and (there.sha256 == sha256 or is_known(there.sha256))
            ):
                # also what an earlier attempt left where a server was found to be unfit
                said = artifacts.sums_of(there.sha256, filename)
                self._bucket.demand_conditions(folder / SUMS, said)
                return there
            found = None if occupied else self._bucket.head(path)
            is_ours = found and found.size == size and self._digest(path, found) == sha256
            if found and not is_ours:
                if found.age < UNFINISHED_SECONDS:  # its writer may be about to say what it is
                    time.sleep(_POLL_SECONDS)
                    continue
                occupied = True
            attempts += 1
            if occupied:
                self._set_aside(folder)
            elif (
                (found or self._bucket.create(path, data, sha256))
                and self._bucket.create(folder / SUMS, sums)
                # nobody has set it aside in between
                and (kept := self._bucket.head(path))
                and kept.size == size
                and kept.sha256 in {sha256, None}
            ):
                self._bucket.demand_conditions(folder / SUMS, sums)
                return Artifact(asset, data_version, path, size, sha256)
        raise StoreError(
            f"cannot publish {path}: others keep publishing there. Let one at a time do it, then "
            f"materialize {asset} again."
        )

    def find(self, asset: str, data_version: str) -> Artifact | None:
        """Return the artifact of this version if its bytes are those once published, else None."""
        return self._look(asset, data_version)[1]

    def size(self, artifact: Artifact) -> int | None:
        """Return how many bytes an artifact has, without reading them, or None if it is gone."""
        head = self._bucket.head(artifact.path)
        return head.size if head else None

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified against the size and digest once recorded.

        Raises
        ------
        StoreError
            The artifact is gone or damaged; the message names the asset to materialize.
        """
        head = self._head(artifact)
        with self._bucket.opened(artifact.path, head, artifact.size or 1) as file:
            data: bytes = file.read()
        if (found := files.sha256(data)) != artifact.sha256:
            raise artifacts.damaged(artifact, len(data), found)
        return data

    @contextlib.contextmanager
    def reader(self, artifact: Artifact) -> Iterator[BinaryIO]:
        """Open an artifact to read any part of it, when its size and digest are as recorded.

        Nothing but these parts is moved, all of the object that was looked at. The digest is the
        one that its writer gave the object; where it has none, all of it is read and verified.

        It raises what `read` does.
        """
        head = self._head(artifact)
        if head.sha256 is None:
            with self.local(artifact) as path, path.open("rb") as file:
                yield file
        elif head.sha256 != artifact.sha256:
            raise artifacts.damaged(artifact, head.size, head.sha256)
        else:
            with self._bucket.opened(artifact.path, head, _RANGE_BYTES) as remote:
                yield remote

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give the path of a local file with an artifact's bytes, verified, for as long as needed.

        It raises what `read` does.
        """
        with tempfile.TemporaryDirectory(prefix="mnist-pipeline-") as folder:
            copy = Path(folder) / artifact.path.name
            head = self._head(artifact)
            try:
                with copy.open("wb") as file:
                    found = self._digest(artifact.path, head, file)
            except OSError as error:
                text = f"{artifact.path}: no copy in {folder}: {error.strerror}. Set TMPDIR."
                raise StoreError(text) from None
            if found != artifact.sha256:
                raise artifacts.damaged(artifact, head.size, found)
            yield copy

    def holds(self, asset: str) -> bool:
        """Whether any version of an asset is there."""
        return any(name.endswith(f"/{SUMS}") for name in self._bucket.below(self.root / asset))

    def leftovers(
        self, asset: str, keep: Callable[[], Collection[str]], *, remove: bool
    ) -> list[Leftover]:
        """Do as `Store.leftovers`, but what to keep is asked again before each removal."""
        folder = self.root / asset
        versions, kept = self._bucket.folders_below(folder), keep()
        found = {
            version: files
            for version, files in sorted(versions.items())
            if version not in kept and self._is_made_here(folder / version, files)
        }
        for version, objects in list(found.items()) if remove else ():
            if version in keep():
                del found[version]
                continue
            for name, head in objects.items():
                self._bucket.remove(folder / version / name, head)
        return [
            Leftover(folder / version, sum(head.size for head in files.values()))
            for version, files in found.items()
        ]

    def _look(self, asset: str, data_version: str) -> tuple[bool, Artifact | None]:
        """Return whether there is a `SHA256SUMS`, and the artifact if it is as that says."""
        folder = self.root / asset / data_version
        if (said := self._bucket.start_of(folder / SUMS, artifacts.SUMS_BYTES)) is None:
            return False, None
        try:
            sha256, filename = artifacts.read_sums(said)
        except ValueError:
            return True, None
        head = self._bucket.head(path := folder / filename)
        if head is None or self._digest(path, head) != sha256:
            return True, None
        return True, Artifact(asset, data_version, path, head.size, sha256)

    def _head(self, artifact: Artifact) -> Head:
        """Return what is said of an artifact; one of another size is not read, however large."""
        head = self._bucket.head(artifact.path)
        if head is None:
            raise artifacts.gone(artifact)
        if head.size != artifact.size:
            raise artifacts.damaged(artifact, head.size, None)
        return head

    def _digest(self, path: Place, head: Head, copy: BinaryIO | None = None) -> str:
        digest = hashlib.sha256()
        with self._bucket.opened(path, head, _BLOCK_BYTES) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if copy:
                    copy.write(block)
        return digest.hexdigest()

    def _set_aside(self, folder: "UPath") -> None:
        names, number = self._bucket.folders_below(folder.parent), 1
        while (aside := f"{folder.name}.damaged-{number}") in names:
            number += 1
        # without its sums the file counts as nothing
        self._bucket.move(folder, folder.with_name(aside), first=SUMS)

    def _is_made_here(self, folder: "UPath", files: dict[str, Head]) -> bool:
        if re.search(r"\.damaged-\d+$", folder.name) or SUMS in files:
            return True
        # what a killed writer left has the digest that he gave it
        return all(
            head.age > LEFT_SECONDS and (found := self._bucket.head(folder / name)) and found.sha256
            for name, head in files.items()
        )
