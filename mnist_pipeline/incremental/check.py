"""What a guard returns: the shape that all of them share, and no guard itself.

A guard looks at a result and returns a verdict. It never raises and never repairs: what a failed
verdict leads to is decided by who asked. Guards live beside what they guard.
"""

from dataclasses import dataclass, field

Fact = str | int | float | bool


@dataclass(frozen=True)
class Verdict:
    """The outcome of one guard: which one, whether it passed, and what it saw in one sentence."""

    name: str
    passed: bool
    saw: str
    facts: dict[str, Fact] = field(default_factory=dict)
