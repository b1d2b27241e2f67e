"""What a store holds, in the words that every kind of store uses: files, their digests, refusals.

It opens nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mnist_pipeline.incremental.errors import StoreError

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"
"""Where something is: in a local folder, or under an URL."""

SUMS = "SHA256SUMS"
"""Beside each file, in the format of `sha256sum -c`."""

SUMS_BYTES = 1000
"""More than such a file ever has."""


@dataclass(frozen=True)
class Artifact:
    """A published file: where it is, and what its bytes must be."""

    asset: str
    data_version: str
    path: Place
    size: int
    sha256: str


@dataclass(frozen=True)
class Leftover:
    """A folder in the store that is not kept: an old version, a damaged or an unfinished one."""

    path: Place
    size: int


def sums_of(sha256: str, filename: str) -> bytes:
    """Return what `SHA256SUMS` says of a file."""
    return f"{sha256}  {filename}\n".encode()


def read_sums(data: bytes) -> tuple[str, str]:
    """Return digest and name of the file that a `SHA256SUMS` is about.

    Raises
    ------
    ValueError
        It is none, or leads elsewhere.
    """
    sha256, filename = data.decode("utf-8").split()
    if Path(filename).name != filename:
        raise ValueError(f"{filename!r} is no file beside it")
    return sha256, filename


def gone(artifact: Artifact) -> StoreError:
    """Return the refusal of a file that is not there."""
    asset, path = artifact.asset, artifact.path
    return StoreError(
        f"{asset} is gone from the store: {path} does not exist. Materialize {asset}."
    )


def damaged(artifact: Artifact, size: int, sha256: str | None) -> StoreError:
    """Return the refusal of bytes that are not the recorded ones; None is for none looked at."""
    asset, path = artifact.asset, artifact.path
    return StoreError(
        f"{asset} is damaged: {path} has {size:,} bytes with sha256 {sha256 or 'not looked at'}, "
        f"recorded were {artifact.size:,} with {artifact.sha256}. Materialize {asset}; the damaged "
        "file is set aside."
    )
