"""The store in a bucket of an S3 server, by boto3; boto3 is imported with the first request."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from . import files
from .errors import StoreError
from .store import (
    Artifact,
    BucketPath,
    DamagedError,
    Garbage,
    Store,
    StorePath,
    as_store_error,
    check,
    is_artifact,
    missing,
)

_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4

_CONNECT_SECONDS = 5  # and the longest that an upload waits until the server takes more
_READ_SECONDS = 10
_ATTEMPTS = 2

_FORBIDDEN = {"403", "AccessDenied", "SignatureDoesNotMatch"}
_INVALID_KEYS = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken"}


class S3Store(Store):
    """Artifacts in a bucket, with the promises of the local store.

    An object appears all at once, by one PUT or the completion of a multipart upload, with its
    SHA-256 as metadata. `is_intact` compares that one with the recorded digest, all else that of
    the bytes. Credentials, region and endpoint are those that boto3 finds. All methods raise a
    StoreError where the server refuses or does not answer within two minutes.
    """

    root: BucketPath

    def __init__(self, root: BucketPath, locks: Path) -> None:
        self.root = root
        self.locks = locks
        # connections are not shared with a forked process
        self._client = cache(_opened)

    def size(self, artifact: Artifact) -> int | None:
        """Return the size of an artifact in bytes, by one HEAD; None if it is missing."""
        head = self._ask(artifact.path)
        return int(head["ContentLength"]) if head else None

    def is_intact(self, artifact: Artifact) -> bool:
        """Return whether an artifact is there with the recorded size and digest, by one HEAD."""
        try:
            has_digest = "sha256" in self._head(artifact)["Metadata"]
        except DamagedError:
            return False
        return has_digest or super().is_intact(artifact)

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact, verified by size and digest."""
        with self.local(artifact) as path:
            return path.read_bytes()

    @contextlib.contextmanager
    def local(self, artifact: Artifact) -> Iterator[Path]:
        """Give a local copy of an artifact, verified, for as long as the context lasts."""
        self._head(artifact)
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            path = Path(folder) / artifact.filename
            where = f"{artifact.path} to {folder}"
            with (
                as_store_error("copy", "Make room there, or set TMPDIR to another folder.", where),
                translated(artifact.path),
                self._transfer() as manager,
            ):
                manager.download(*_key(artifact.path), str(path)).result()
            check(artifact, path.stat().st_size, files.sha256(path))
            yield path

    def _transfer(self) -> Any:
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        how = TransferConfig(_PART_BYTES, _PARTS_AT_ONCE, _PART_BYTES, _ATTEMPTS)
        return create_transfer_manager(self.s3, how)

    def _write(self, artifact: Artifact, data: bytes | Path) -> None:
        with translated(artifact.path), self._transfer() as manager:
            manager.upload(
                str(data) if isinstance(data, Path) else io.BytesIO(data),
                *_key(artifact.path),
                extra_args={"Metadata": {"sha256": artifact.sha256}},
            ).result()

    def _recognized(self, asset: str) -> list[Garbage]:
        folders: dict[str, dict[str, int]] = {}
        for name, size in self._list(self.root / asset).items():
            folder, slash, rest = name.partition("/")
            if slash:
                folders.setdefault(folder, {})[rest] = size
        return [
            Garbage(self.root / asset / name, sum(inside.values()))
            for name, inside in sorted(folders.items())
            if is_artifact(name, inside)
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
                self.s3.head_bucket(Bucket=bucket)  # 404 can mean the object or the bucket
        return None

    def _head(self, artifact: Artifact) -> dict[str, Any]:
        """Return the answer to HEAD for an object with the recorded size and digest.

        Only such an object is ever read.
        """
        head = self._ask(artifact.path)
        if head is None:
            raise missing(artifact)
        check(artifact, head["ContentLength"], head["Metadata"].get("sha256"))
        return head

    @property
    def s3(self) -> Any:
        """The client of this process."""
        return self._client(os.getpid())


def _opened(process: int) -> Any:
    import boto3

    how = boto3.session.Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    return boto3.session.Session().client("s3", config=how)


def _key(path: StorePath) -> tuple[str, str]:
    bucket, *key = path.parts
    return bucket, "/".join(key)


@contextlib.contextmanager
def translated(path: StorePath) -> Iterator[None]:
    """Turn errors of the server or the library into one StoreError with the remedy.

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
    from s3transfer.exceptions import RetriesExceededError

    match _code(error):
        case "NoSuchKey" | "PreconditionFailed":
            return "it was replaced while it was read. Try again."
        case "NoSuchBucket" | "404":
            return "there is no such bucket. Create it, or correct the store's location."
        case "AuthorizationHeaderMalformed" | "PermanentRedirect" | "301" | "307":
            return "the bucket is in another region. Set AWS_DEFAULT_REGION to it."
        case str(code) if code in _FORBIDDEN | _INVALID_KEYS:
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
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | RetriesExceededError):
        return (
            "the server does not answer. Look at the network, and at AWS_ENDPOINT_URL if it is not "
            "Amazon's."
        )
    if isinstance(error, boto.BotoCoreError):
        return f"{type(error).__name__}. Look at the AWS_ variables and at ~/.aws/config."
    return None
