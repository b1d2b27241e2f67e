"""The errors of the domain. Those of files and of the store are in `incremental.errors`."""

import re

from mnist_pipeline.incremental.errors import PipelineError


def redacted(text: str) -> str:
    """Return a text without what its URLs may hold of secrets: user, password and query.

    What does not print is escaped: others may have written it.
    """
    text = re.sub(r"[^\x20-\x7e]", lambda found: ascii(found[0])[1:-1], text)
    text = re.sub(r"(?<=://)[^/?#]*@", "***@", text)
    return re.sub(r"(://[^\s?]{0,500}\?)\S+", r"\1***", text)


class SourceError(PipelineError):
    """The source of the digits could not be reached, or did not serve what it promised."""


class RefusedError(SourceError):
    """A source answered that it does not serve this: 404, 412 or the like."""


class UnavailableError(SourceError):
    """A source failed in a way that may pass: a timeout, a lost connection, a 503.

    `wait_seconds` is the pause that it asks for, or None.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class UnreachableError(UnavailableError):
    """There is no connection to a source: it may be down, or this machine offline."""


class FitError(PipelineError):
    """A model could not be fitted with these params."""


class IncompatibleModelError(PipelineError):
    """A model file is intact, but the code or the libraries here would read it otherwise."""


class PictureError(PipelineError):
    """An image file cannot be opened, or shows no single digit."""
