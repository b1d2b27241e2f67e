"""Digests of content: the same rows, arrays or numbers give the same version, whatever the file."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Content = npt.NDArray[np.generic] | bytes | str | Mapping[str, object]


def content_digest(*parts: Content) -> str:
    """Return 32 hex digits (BLAKE2b, 128 bits) over arrays, bytes, text and JSON-like mappings.

    An array counts with its dtype and shape, in little-endian C order; a mapping by its keys and
    values, not by their order. Parts are framed, so that moving a byte from one to the next
    changes the digest.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            head = f"array {array.dtype.str} {part.shape}"
            body = array.ravel().data
        elif isinstance(part, bytes):
            head, body = "bytes", memoryview(part)
        elif isinstance(part, str):
            head, body = "text", memoryview(part.encode())
        else:
            text = json.dumps(part, sort_keys=True, allow_nan=False)
            head, body = "json", memoryview(text.encode())
        digest.update(f"{head} {body.nbytes}\n".encode())
        digest.update(body)
    return digest.hexdigest()
