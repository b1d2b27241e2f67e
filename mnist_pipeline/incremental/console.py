"""How a run shows in a terminal: the steps' log messages and ends, on stderr."""

import logging
import os
from functools import cache
from typing import TextIO

import dagster as dg

from . import _dagster


class _Progress(logging.StreamHandler[TextIO]):
    def filter(self, record: logging.LogRecord) -> bool:
        return _dagster.progress(record) is not None

    def format(self, record: logging.LogRecord) -> str:
        step, text = _dagster.progress(record) or ("", "")
        return f"  {step:<15} {text}"


@cache
def _stderr() -> TextIO:
    """Return stderr as it was before a step began.

    While a step runs, Dagster redirects it to a file and prints that with `tail`, which may end
    before the last line.
    """
    return os.fdopen(os.dup(2), "w", buffering=1)


@dg.logger({}, description="Progress in a terminal: one line a log message, on stderr.")
def terminal(context: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger of command-line runs."""
    logger = logging.Logger("incremental.terminal", logging.DEBUG)
    logger.addHandler(_Progress(_stderr()))
    return logger
