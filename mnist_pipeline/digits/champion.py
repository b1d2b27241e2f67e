"""The champion: which model is in service. How it is chosen is in `gate`."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Self

from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError


@dataclass(frozen=True)
class Champion:
    """Which model is in service, and which may not be.

    Attributes
    ----------
    model_version : str or None
        Data version of the model in service; None while none has passed the gate.
    barred : dict
        Data versions that the gate lets through no more, and why.
    """

    model_version: str | None = None
    barred: dict[str, str] = field(default_factory=dict)

    @cached_property
    def data_version(self) -> str:
        """Digest of both."""
        return content_digest(asdict(self))

    def to_json(self) -> bytes:
        """Encode as JSON."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Decode what `to_json` made.

        Raises
        ------
        FormatError
            The bytes are not such JSON.
        """
        try:
            return cls(**json.loads(data))
        except (TypeError, ValueError) as error:
            raise FormatError(f"not a champion: {error!r}") from None
