"""The arithmetic."""

import dataclasses

from mnist_pipeline.incremental import CheckResult


@dataclasses.dataclass
class Limits:
    """What is allowed."""

    least: int = 1
    most: int | None = 100


def parse(text: str) -> list[int]:
    """Return the numbers in a text."""
    found: list[int] = []
    for line in text.split():
        found += [int(line)]
    return found


def not_empty(numbers: list[int]) -> CheckResult:
    """There are numbers."""
    return CheckResult(
        "not_empty", len(numbers) >= Limits().least, f"{len(numbers)} numbers", {"n": len(numbers)}
    )


def small(numbers: list[int]) -> CheckResult:
    """No number is large."""
    largest = max(numbers, default=0)
    return CheckResult("small", largest <= (Limits().most or 0), f"at most {largest}")
