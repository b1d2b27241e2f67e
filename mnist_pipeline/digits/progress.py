"""Progress of long work: one callback for sentences, and a limit on how many there are."""

import time
from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with a sentence about the work so far."""

SECONDS = 5.0
"""Least time between two sentences of a `Throttled`."""


def silent(text: str) -> None:
    """Report nothing."""


class Throttled:
    """Passes on what it is called with at most once in `SECONDS`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = time.monotonic() + SECONDS

    def __call__(self, text: str) -> None:
        """Pass the text on, or drop it if the last one is too recent."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS
            self._progress(text)
