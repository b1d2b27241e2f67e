"""The store in a bucket of an S3 server, by s3fs; s3fs is imported with the first request."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import (
    Artifact,
    DamagedError,
    Garbage,
    Store,
    StorePath,
    check,
    is_made_here,
    missing,
)

if TYPE_CHECKING:
    from upath import UPath

_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000
_BLOCK_BYTES = 8 << 20
_RANGE_BYTES = 256 << 10  # what is read ahead of one column is wasted

# s3fs tries a range twice, each time what it asks twice, each time as botocore does: eight times
_CONNECT_SECONDS = 5
_READ_SECONDS = 10
_ATTEMPTS = 2
# neither timeout covers an upload that the server stopped to accept
_WRITE_SECONDS = 60
_LEAST_BYTES_A_SECOND = 500_000


@dataclass(frozen=True)
class _Head:
    size: int
    etag: str
    sha256: str | None  # the digest that its writer gave the object


class S3Store(Store):
    """Artifacts in a bucket, with the promises of the local store.

    An object appears all at once, by one PUT or the completion of a multipart upload, with its
    SHA-256 as metadata. Credentials and endpoint are those that s3fs finds.

    Parameters
    ----------
    root : UPath
        `s3://bucket/prefix`.
    locks : Path
        A local folder for the lock files of those who work on the store.

    All methods raise a StoreError where the server refuses or does not answer within two minutes.
    """

    root: "UPath"

    def __init__(self, root: "UPath", locks: Path) -> None:
        self.root = root
        self.locks = locks
        self._bucket_exists = False
        self._opened_by: tuple[int, Any] = 0, None

    def publish(self, asset: str, filename: str, data: bytes | Path) -> Artifact:
        """Put a file into the store. What is there is read: intact it stays, else it is replaced.

        Parameters are those of `Store.publish`.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        artifact = self.artifact(asset, files.sha256(data), filename, size)
        with contextlib.suppress(DamagedError):
            self._verify(artifact, self._head(artifact))
            return artifact
        how: dict[str, Any] = {
            "Metadata": {"sha256": artifact.sha256},
            "max_concurrency": _PARTS_AT_ONCE,
            "timeout": _WRITE_SECONDS + size / _LEAST_BYTES_A_SECOND,
        }
        with translated(artifact.path):
            if isinstance(data, Path):
                part = max(_PART_BYTES, -(-size // _MOST_PARTS))
                self._s3.put_file(str(data), str(artifact.path), chunksize=part, **how)
            else:
                self._s3.pipe_file(str(artifact.path), data, chunksize=_PART_BYTES, **how)
        return artifact

    def size(self, artifact: Artifact) -> int | None:
        """Return the size of an artifact in bytes, by one HEAD; None if it is missing."""
        head = self._ask(artifact.path)
        return head.size if head else None

    def is_intact(self, artifact: Artifact) -> bool:
        """Return whether an artifact is there with the recorded size and digest.

        The digest is the one that its writer gave the object; the bytes are read where it has none.
        """
        try:
            head = self._head(artifact)
            if head.sha256 is None:
                self._verify(artifact, head)
        except DamagedError:
            return False
        return True

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified by size and digest."""
        self._head(artifact)
        with translated(artifact.path):
            data: bytes = self._s3.cat_file(str(artifact.path))
        check(artifact, len(data), files.sha256(data))
        return data

    @contextlib.contextmanager
    def reader(self, artifact: Artifact) -> Iterator[BinaryIO]:
        """Open an artifact to read any part of it; only these parts are transferred.

        The digest compared is the one that its writer gave the object. Where it has none, all of it
        is copied and verified.
        """
        head = self._head(artifact)
        if head.sha256 is None:
            with self.local(artifact) as path, path.open("rb") as file:
                yield file
        else:
            with self._open(artifact.path, head, _RANGE_BYTES) as remote:
                yield remote

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give a local copy of an artifact, verified, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            copy = Path(folder) / artifact.filename
            head = self._head(artifact)
            try:
                with copy.open("wb") as file:
                    self._verify(artifact, head, file)
            except OSError as error:
                raise StoreError(
                    f"cannot copy {artifact.path} to {folder}: {error.strerror}. Make room there, "
                    "or set TMPDIR to another folder."
                ) from None
            yield copy

    def _recognized(self, asset: str) -> list[Garbage]:
        folders: dict[str, dict[str, int]] = {}
        for name, size in self._list(self.root / asset).items():
            folder, _, rest = name.partition("/")
            if rest:
                folders.setdefault(folder, {})[rest] = size
        return [
            Garbage(self.root / asset / name, sum(inside.values()))
            for name, inside in sorted(folders.items())
            if is_made_here(name, inside)
        ]

    def _remove(self, garbage: Garbage) -> None:
        for name in self._list(garbage.path):
            with translated(garbage.path / name):
                self._s3.call_s3("delete_object", **_key(garbage.path / name))

    def _list(self, folder: StorePath) -> dict[str, int]:
        """Return the sizes of all objects below a folder by the rest of their names."""
        with translated(folder):
            found = self._s3.find(str(folder), detail=True)
        start = len(str(folder).removeprefix("s3://")) + 1
        return {name[start:]: one["size"] for name, one in found.items()}

    def _ask(self, path: StorePath) -> _Head | None:
        with translated(path):
            try:
                answer = self._s3.call_s3("head_object", **_key(path))
            except FileNotFoundError:
                if not self._bucket_exists:  # the answer to HEAD does not tell what is missing
                    self._s3.call_s3("head_bucket", Bucket=_key(path)["Bucket"])
                    self._bucket_exists = True
                return None
        return _Head(answer["ContentLength"], answer["ETag"], answer["Metadata"].get("sha256"))

    def _head(self, artifact: Artifact) -> _Head:
        """Return the answer to HEAD, if it is that of the artifact; nothing else is ever read."""
        head = self._ask(artifact.path)
        if head is None:
            raise missing(artifact)
        check(artifact, head.size)
        check(artifact, head.size, head.sha256)
        return head

    def _verify(self, artifact: Artifact, head: _Head, copy: BinaryIO | None = None) -> None:
        digest = hashlib.sha256()
        with self._open(artifact.path, head, _BLOCK_BYTES) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if copy:
                    copy.write(block)
        check(artifact, head.size, digest.hexdigest())

    @contextlib.contextmanager
    def _open(self, path: StorePath, head: _Head, block: int) -> Iterator[Any]:
        """Open the object of this answer, and no other, to read blocks of that many bytes."""
        replaced = StoreError(f"{path} was replaced while it was read. Try again.")
        with translated(path):
            try:
                file = self._s3.open(str(path), "rb", block_size=block, cache_type="readahead")
            except FileNotFoundError:
                raise replaced from None
            with file:
                if file.details["ETag"] != head.etag:
                    raise replaced
                yield file

    @property
    def _s3(self) -> Any:
        process, s3 = self._opened_by
        if process != os.getpid():  # the thread with its connections does not survive a fork
            import s3fs

            s3 = s3fs.S3FileSystem(
                use_listings_cache=False,
                skip_instance_cache=True,
                config_kwargs={
                    "connect_timeout": _CONNECT_SECONDS,
                    "read_timeout": _READ_SECONDS,
                    "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
                },
            )
            s3.retries = _ATTEMPTS
            self._opened_by = os.getpid(), s3
        return s3


@contextlib.contextmanager
def translated(path: StorePath) -> Iterator[None]:
    """Turn errors of the server or the library into one StoreError that says what to do.

    Their own text is dropped: servers repeat in it who asked, and how.
    """
    try:
        yield
    except Exception as error:
        if (meaning := _meaning(error)) is None:
            raise
        raise StoreError(f"cannot use {path}: {meaning}") from None


def _key(path: StorePath) -> dict[str, str]:
    bucket, _, key = str(path).removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _code(error: BaseException | None) -> str | None:
    """Return the server's code of an error or of what caused it; None if it is not a server's."""
    from botocore.exceptions import ClientError

    while error:
        if isinstance(error, ClientError):
            return str(error.response["Error"].get("Code"))
        error = error.__cause__
    return None


def _meaning(error: Exception) -> str | None:
    import aiohttp
    from botocore import exceptions

    match _code(error):
        case "NoSuchKey" | "PreconditionFailed":
            return "it was replaced while it was read. Try again."
        case "NoSuchBucket" | "404":
            return "there is no such bucket. Create it, or correct the store's location."
        case "AuthorizationHeaderMalformed" | "PermanentRedirect" | "301" | "307":
            return "the bucket is in another region. Set AWS_DEFAULT_REGION to it."
        case (
            "403"
            | "AccessDenied"
            | "ExpiredToken"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "SignatureDoesNotMatch"
        ) as code:
            return (
                f"the server refuses ({code}). Look at the credentials (AWS_ACCESS_KEY_ID, "
                "AWS_PROFILE ...) and at what they allow: s3:GetObject, PutObject, DeleteObject, "
                "ListBucket."
            )
        case str(code):
            return f"the server answers {code}. Try again later, or ask who runs it."
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return (
            "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE."
        )
    unanswered = (exceptions.ConnectionError, exceptions.HTTPClientError, aiohttp.ClientError)
    if isinstance(error, (*unanswered, TimeoutError)):
        return (
            "the server does not answer. Look at the network, and at AWS_ENDPOINT_URL if it is not "
            "Amazon's."
        )
    if isinstance(error, exceptions.BotoCoreError):
        return f"{type(error).__name__}. Look at the AWS_ variables and at ~/.aws/config."
    return None
