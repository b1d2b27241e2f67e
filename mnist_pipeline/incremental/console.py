"""How a run shows in a terminal: the steps' log messages and ends, on stderr."""

import logging
import os
from functools import cache
from typing import TextIO

import dagster as dg

from . import _dagster


def _is_progress(record: logging.LogRecord) -> bool:
    event = _dagster.dagster_event(record)[1]
    if event is None:
        # failures are reported once, at the end
        return logging.INFO <= record.levelno < logging.ERROR
    return bool(event.is_step_success)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta, event = _dagster.dagster_event(record)
        done = f"done in {_dagster.step_seconds(event):.1f} s" if event else meta["orig_message"]
        return f"  {meta['step_key'] or '':<15} {done}"


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
    handler = logging.StreamHandler(_stderr())
    handler.addFilter(_is_progress)
    handler.setFormatter(_Lines())
    logger = logging.Logger("incremental.terminal", logging.DEBUG)
    logger.addHandler(handler)
    return logger
