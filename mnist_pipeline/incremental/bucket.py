"""Objects of an S3 server: one request at a time, or a few that are one act.

What is kept there, and in which order it is written, is in `remote_store`; what refusals mean for
a person is in `server_errors`.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from mnist_pipeline.incremental.artifacts import Place
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.server_errors import code_of, told

_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000

# s3fs tries a range twice, each time what it asks twice, each time as botocore does: eight times
_CONNECT_SECONDS = 5
_READ_SECONDS = 10
# while a body is sent, neither says anything of a server that has stopped to take it
_WRITE_SECONDS = 60
_LEAST_BYTES_A_SECOND = 500_000
_ATTEMPTS = 2

_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "409", "412"}
_ABSENT = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class Head:
    """What a server says of an object.

    Attributes
    ----------
    size : int
        Bytes.
    etag : str
        Another one for other bytes.
    age : float
        Seconds since it was written.
    sha256 : str or None
        The digest that its writer gave it.
    """

    size: int
    etag: str
    age: float
    sha256: str | None = None


class Bucket:
    """The objects below an URL, with credentials and endpoint as s3fs finds them.

    Parameters
    ----------
    url : str
        `s3://bucket/prefix`.

    All methods raise a StoreError with the URL, and what to do, where the server cannot be reached
    within two minutes or refuses.
    """

    def __init__(self, url: str) -> None:
        self._name = url.removeprefix("s3://").partition("/")[0]
        self._opened_by: tuple[int, Any] = 0, None
        self._exists = False
        self._keeps_conditions = False

    def head(self, path: Place) -> Head | None:
        """Return what is said of an object, or None if there is none."""
        with told(path):
            try:
                answer = self._files.call_s3("head_object", **_key(path))
            except FileNotFoundError:
                if not self._exists:  # the answer to HEAD does not say what there is none of
                    self._files.call_s3("head_bucket", Bucket=self._name)
                    self._exists = True
                return None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return Head(
            answer["ContentLength"],
            answer["ETag"],
            (now - answer["LastModified"]).total_seconds(),
            answer["Metadata"].get("sha256"),
        )

    def start_of(self, path: Place, most: int) -> bytes | None:
        """Return the first bytes of an object, or None if there is none."""
        with told(path):
            try:
                start: bytes = self._files.cat_file(str(path), start=0, end=most)
            except OSError as error:
                match code_of(error):
                    case "NoSuchKey" | "404":
                        return None
                    case "InvalidRange" | "416":
                        return b""
                raise
        return start

    def create(self, path: Place, data: bytes | Path, sha256: str | None = None) -> bool:
        """Write an object, all at once, if there is none; return whether there was none.

        Raises
        ------
        StoreError
            The server writes over objects although it was told not to.
        """
        how: dict[str, Any] = {"Metadata": {"sha256": sha256}} if sha256 else {}
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        limit = _WRITE_SECONDS + size / _LEAST_BYTES_A_SECOND
        how |= {"mode": "create", "max_concurrency": _PARTS_AT_ONCE, "timeout": limit}
        with told(path):
            try:
                if isinstance(data, Path):
                    part = max(_PART_BYTES, -(-size // _MOST_PARTS))
                    self._files.put_file(str(data), str(path), chunksize=part, **how)
                else:
                    self._files.pipe_file(str(path), data, chunksize=_PART_BYTES, **how)
            except OSError as error:
                if isinstance(error, FileExistsError) or code_of(error) in _TAKEN:
                    return False
                raise
        return True

    def demand_conditions(self, path: Place, data: bytes) -> None:
        """Ask once for what must be refused: to create an object that is there, from its bytes.

        Raises
        ------
        StoreError
            The server does it.
        """
        if not self._keeps_conditions and self.create(path, data):
            raise StoreError(
                f"{path}: the server of MNIST_DATA_DIR writes over what is there, although it is "
                "told not to (If-None-Match: *). Use one that knows conditional writes."
            )
        self._keeps_conditions = True

    @contextlib.contextmanager
    def opened(self, path: Place, head: Head, block: int) -> Iterator[Any]:
        """Open an object of which this was said, and no other, to read blocks of that size."""
        with told(path):
            try:
                file = self._files.open(str(path), "rb", block_size=block, cache_type="readahead")
            except FileNotFoundError:
                raise _replaced(path) from None
            with file:
                if file.details["ETag"] != head.etag:
                    raise _replaced(path)
                yield file

    def below(self, folder: Place) -> dict[str, Head]:
        """List all objects below a folder by the rest of their names. It is what costs time."""
        with told(folder):
            found = self._files.find(str(folder), detail=True)
        start = len(str(folder).removeprefix("s3://")) + 1
        return {
            name[start:]: Head(
                one["size"], one["ETag"], time.time() - one["LastModified"].timestamp()
            )
            for name, one in found.items()
        }

    def folders_below(self, folder: Place) -> dict[str, dict[str, Head]]:
        """List the same by the folders in it, then by the rest of their names."""
        folders: dict[str, dict[str, Head]] = {}
        for name, head in self.below(folder).items():
            inside, _, rest = name.partition("/")
            folders.setdefault(inside, {})[rest] = head
        return folders

    def move(self, folder: Place, to: Place, first: str) -> None:
        """Let the server copy all objects below a folder; then remove them, that name first."""
        found = self.below(folder)
        for name in found:
            # what is gone, somebody else has moved
            with told(folder / name), contextlib.suppress(FileNotFoundError):
                self._files.cp_file(str(folder / name), str(to / name))
        for name in sorted(found, key=lambda name: name != first):
            self.remove(folder / name, found[name])

    def remove(self, path: Place, head: Head) -> None:
        """Remove an object if it is still the one of which this was said."""
        with told(path):
            try:
                self._files.call_s3("delete_object", **_key(path), IfMatch=head.etag)
            except OSError as error:
                if code_of(error) not in _TAKEN | _ABSENT:
                    raise

    @property
    def _files(self) -> Any:
        process, files = self._opened_by
        if process != os.getpid():  # the thread with its connections does not survive a fork
            import s3fs

            files = s3fs.S3FileSystem(
                use_listings_cache=False,
                skip_instance_cache=True,
                config_kwargs={
                    "connect_timeout": _CONNECT_SECONDS,
                    "read_timeout": _READ_SECONDS,
                    "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
                },
            )
            files.retries = _ATTEMPTS
            self._opened_by = os.getpid(), files
        return files


def _key(path: Place) -> dict[str, str]:
    bucket, _, key = str(path).removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _replaced(path: Place) -> StoreError:
    return StoreError(f"{path} was replaced while it was read. Try again.")
