"""The store in a bucket of an S3 server, by boto3; boto3 is imported with the first request."""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from . import files
from .errors import StoreError
from .store import (
    Artifact,
    BucketPath,
    Garbage,
    Store,
    StorePath,
    check,
    is_made_here,
    missing,
)

_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_BLOCK_BYTES = 8 << 20

_CONNECT_SECONDS = 5  # and the longest that an upload waits until the server takes more
_READ_SECONDS = 10
_ATTEMPTS = 2


class S3Store(Store):
    """Artifacts in a bucket, with the promises of the local store.

    An object appears all at once, by one PUT or the completion of a multipart upload, with its
    SHA-256 as metadata. `is_intact` and `reader` compare that one with the recorded digest, all
    else compares that of the bytes, as these two do where the object has none. Credentials, region
    and endpoint are those that boto3 finds.

    Parameters
    ----------
    root : BucketPath
        `s3://bucket/prefix`.
    locks : Path
        A local folder for the lock files of those who work on the store.

    All methods raise a StoreError where the server refuses or does not answer within two minutes.
    """

    root: BucketPath

    def __init__(self, root: BucketPath, locks: Path) -> None:
        self.root = root
        self.locks = locks
        self._opened_by: tuple[int, Any] = 0, None

    def size(self, artifact: Artifact) -> int | None:
        """Return the size of an artifact in bytes, by one HEAD; None if it is missing."""
        head = self._ask(artifact.path)
        return int(head["ContentLength"]) if head else None

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified by size and digest."""
        data = self._open(artifact).readall()
        check(artifact, len(data), files.sha256(data))
        return data

    @contextlib.contextmanager
    def reader(self, artifact: Artifact) -> Iterator[BinaryIO]:
        """Open an artifact to read any part of it; only these parts are transferred, unbuffered."""
        file = self._open(artifact)
        if "sha256" in file.head["Metadata"]:
            yield cast(BinaryIO, file)
        else:
            with self.local(artifact) as path, path.open("rb") as copy:
                yield copy

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give a local copy of an artifact, verified, for as long as the context lasts."""
        remote, digest = self._open(artifact), hashlib.sha256()
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            path = Path(folder) / artifact.filename
            try:
                with path.open("wb") as copy:
                    while block := remote.read(_BLOCK_BYTES):
                        digest.update(block)
                        copy.write(block)
            except OSError as error:
                raise StoreError(
                    f"cannot copy {artifact.path} to {folder}: {error.strerror}. Make room there, "
                    "or set TMPDIR to another folder."
                ) from None
            check(artifact, remote.tell(), digest.hexdigest())
            yield path

    def _write(self, artifact: Artifact, data: bytes | Path) -> None:
        with translated(artifact.path):
            from boto3.s3.transfer import TransferConfig, create_transfer_manager

            how = TransferConfig(_PART_BYTES, _PARTS_AT_ONCE, _PART_BYTES)
            with create_transfer_manager(self.s3, how) as manager:
                manager.upload(
                    str(data) if isinstance(data, Path) else io.BytesIO(data),
                    *_key(artifact.path),
                    extra_args={"Metadata": {"sha256": artifact.sha256}},
                ).result()

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
        bucket, key = _key(garbage.path)
        for name in self._list(garbage.path):
            with translated(garbage.path / name):
                self.s3.delete_object(Bucket=bucket, Key=f"{key}/{name}")

    def _list(self, folder: StorePath) -> dict[str, int]:
        """Return the sizes of all objects below a folder by the rest of their names."""
        bucket, key = _key(folder)
        with translated(folder):
            pages = self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=key + "/"
            )
            found = [one for page in pages for one in page.get("Contents", ())]
        return {one["Key"].removeprefix(key + "/"): one["Size"] for one in found}

    def _ask(self, path: StorePath) -> dict[str, Any] | None:
        """Return the answer to HEAD, which has `ContentLength`, `ETag` and `Metadata`."""
        bucket, key = _key(path)
        with translated(path):
            try:
                return cast(dict[str, Any], self.s3.head_object(Bucket=bucket, Key=key))
            except Exception as error:
                if _code(error) != "404":
                    raise
                self.s3.head_bucket(Bucket=bucket)  # the 404 does not say what is missing
        return None

    def _open(self, artifact: Artifact) -> "_Object":
        """Open an object with the recorded size and digest; nothing else is ever read."""
        head = self._ask(artifact.path)
        if head is None:
            raise missing(artifact)
        check(artifact, head["ContentLength"])
        check(artifact, head["ContentLength"], head["Metadata"].get("sha256"))
        return _Object(self, artifact.path, head)

    @property
    def s3(self) -> Any:
        """The client of this process: connections are not shared with a process forked from it."""
        process, s3 = self._opened_by
        if process != os.getpid():
            import boto3

            how = boto3.session.Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            )
            s3 = boto3.session.Session().client("s3", config=how)
            self._opened_by = os.getpid(), s3
        return s3


class _Object(io.RawIOBase):
    """The object of one answer to HEAD, and no other: each read is one request for its bytes."""

    def __init__(self, store: S3Store, path: StorePath, head: dict[str, Any]) -> None:
        self._store, self._path, self.head, self._at = store, path, head, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.head["ContentLength"])[whence]
        return self._at

    def readall(self) -> bytes:
        return self.read(max(self.head["ContentLength"] - self._at, 0)) or b""

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), int(self.head["ContentLength"]))
        if stop <= self._at:
            return 0
        with translated(self._path):
            buffer[: stop - self._at] = self._bytes(f"bytes={self._at}-{stop - 1}", _ATTEMPTS)
        length = stop - self._at
        self._at = stop
        return length

    def _bytes(self, asked: str, attempts: int) -> bytes:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        bucket, key = _key(self._path)
        try:
            answer = self._store.s3.get_object(
                Bucket=bucket, Key=key, Range=asked, IfMatch=self.head["ETag"]
            )
            return cast(bytes, answer["Body"].read())
        except (HTTPClientError, IncompleteReadError):  # boto3 does not try a body again
            if attempts == 1:
                raise
            return self._bytes(asked, attempts - 1)


def _key(path: StorePath) -> tuple[str, str]:
    bucket, *key = path.parts
    return bucket, "/".join(key)


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


def _code(error: Exception) -> str | None:
    """Return the server's code of an error; None if it is not a server's."""
    from botocore.exceptions import ClientError

    return str(error.response["Error"].get("Code")) if isinstance(error, ClientError) else None


def _meaning(error: Exception) -> str | None:
    from botocore import exceptions as boto

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
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return (
            "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE."
        )
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        return (
            "the server does not answer. Look at the network, and at AWS_ENDPOINT_URL if it is not "
            "Amazon's."
        )
    if isinstance(error, boto.BotoCoreError):
        return f"{type(error).__name__}. Look at the AWS_ variables and at ~/.aws/config."
    return None
