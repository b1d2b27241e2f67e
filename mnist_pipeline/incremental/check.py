"""What a check of a result returns.

A check never raises and never repairs: what follows from a failed one is decided by the caller.
"""

from dataclasses import dataclass, field

Scalar = str | int | float | bool


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes
    ----------
    name : str
        Of the check.
    passed : bool
    description : str
        What was found, in one sentence.
    metadata : dict
        Numbers and texts to record with it.
    """

    name: str
    passed: bool
    description: str
    metadata: dict[str, Scalar] = field(default_factory=dict)
