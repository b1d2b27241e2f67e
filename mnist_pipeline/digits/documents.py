"""The base of results that are small JSON files."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError


@dataclass(frozen=True)
class Document:
    """A dataclass with a JSON file, keys in the order of its attributes."""

    @property
    def document(self) -> dict[str, Any]:
        """What the file holds."""
        return asdict(self)

    @cached_property
    def data_version(self) -> str:
        """Digest of what the file holds."""
        return content_digest(self.document)

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return json.dumps(self.document, indent=2, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Decode what `to_json` made.

        Raises FormatError where the bytes are not such JSON.
        """
        try:
            return cls.of(json.loads(data))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not a file of {cls.__name__}: {error!r}") from None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return the object with a file's content."""
        return cls(**document)
