"""How long work says how far it is."""

import time
from collections.abc import Callable

Report = Callable[[str], None]
"""Called with a sentence about the work so far."""

SECONDS = 5.0
"""Between two sentences about the same work."""


class NowAndThen:
    """Reports what it is called with, but only every few seconds."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._next = time.monotonic() + SECONDS

    def __call__(self, text: str) -> None:
        """Report the text, if the last one is long enough ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS
            self._report(text)
