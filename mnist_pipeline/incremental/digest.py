"""Digests of content: the same rows, arrays or numbers give the same version, whatever the file."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Chunked:
    """An array that comes in parts, along its first axis: counts as the whole array does."""

    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]
    chunks: Iterable[npt.NDArray[np.generic]]


Content = npt.NDArray[np.generic] | Chunked | bytes | str | Mapping[str, object]


def content_digest(*parts: Content) -> str:
    """Return 32 hex digits (BLAKE2b, 128 bits) over arrays, bytes, text and JSON-like mappings.

    An array counts with its dtype and shape, in little-endian C order; a mapping by its keys and
    values, not by their order. Parts are framed, so that moving a byte from one to the next
    changes the digest.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray | Chunked):
            _update(digest, part)
            continue
        if isinstance(part, bytes):
            head, body = "bytes", memoryview(part)
        elif isinstance(part, str):
            head, body = "text", memoryview(part.encode())
        else:
            text = json.dumps(part, sort_keys=True, allow_nan=False)
            head, body = "json", memoryview(text.encode())
        digest.update(f"{head} {body.nbytes}\n".encode())
        digest.update(body)
    return digest.hexdigest()


def _update(digest: hashlib.blake2b, part: npt.NDArray[np.generic] | Chunked) -> None:
    dtype = part.dtype.newbyteorder("<")
    size = math.prod(part.shape) * dtype.itemsize
    digest.update(f"array {dtype.str} {part.shape} {size}\n".encode())
    for chunk in part.chunks if isinstance(part, Chunked) else [part]:
        array = np.ascontiguousarray(chunk, dtype)
        digest.update(array.data.cast("B"))
        size -= array.nbytes
    if size:
        raise ValueError(f"an array of shape {part.shape} came with {size} bytes less than it has")
