"""The errors this project raises on purpose, each with one message for a person.

A message says what was wrong, where, and what to do. Nothing else belongs here.
"""


class PipelineError(Exception):
    """Base of every error that is the user's to read rather than the developer's to debug."""


class SettingsError(PipelineError):
    """An environment variable, `.env` or params file holds a value that is not allowed."""


class SourceError(PipelineError):
    """The source of the digits could not be reached, or did not serve what it promised."""


class RefusedError(SourceError):
    """A source was reached and says no: an answer 404, 412 or the like."""


class UnavailableError(SourceError):
    """A source failed in a way that may pass by itself: a timeout, a lost connection, a 503.

    `wait_seconds` is how long it asks to be left alone, or None.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class UnreachableError(UnavailableError):
    """There is no connection to a source: it may be down, or this machine offline."""


class FormatError(PipelineError):
    """A file is not what its format, or this pipeline, demands of it."""


class StoreError(PipelineError):
    """An artifact is missing from the store, damaged, or could not be written."""


class HistoryError(PipelineError):
    """Dagster's history of runs and materializations cannot be read or written."""


class FitError(PipelineError):
    """A model could not be fitted with these params."""


class PictureError(PipelineError):
    """An image file cannot be opened, or shows no single digit."""
