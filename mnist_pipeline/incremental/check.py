"""What a check of a result returns."""

from dataclasses import dataclass, field

Scalar = str | int | float | bool


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    `description` is one sentence, `metadata` are numbers and texts to record with it.
    """

    name: str
    passed: bool
    description: str
    metadata: dict[str, Scalar] = field(default_factory=dict)
