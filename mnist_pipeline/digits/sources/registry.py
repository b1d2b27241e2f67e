"""The sources that there are. A new one is a module beside, and its object here."""

from mnist_pipeline.digits.sources.infinite import Infinite
from mnist_pipeline.digits.sources.openml import OpenML
from mnist_pipeline.digits.sources.sample import Sample
from mnist_pipeline.digits.sources.source import Source
from mnist_pipeline.incremental.errors import FormatError

SOURCES: tuple[Source, ...] = (
    OpenML(),
    Sample(),
    Infinite(),
)


def named(value: str) -> Source:
    """Return the source that a value of MNIST_SOURCE names.

    Raises ValueError, which names the allowed values, where none matches.
    """
    for source in SOURCES:
        if found := source.named(value):
            return found
    raise ValueError(f"it is {' or '.join(source.allowed for source in SOURCES)}")


def by_name(name: str) -> Source:
    """Return the source with a name that some file records. Raises FormatError if it is gone."""
    for source in SOURCES:
        if source.name == name:
            return source
    raise FormatError(
        f"the digits are of the source {name!r}, which is not in digits/sources/registry.py: "
        "restore it, or materialize raw_mnist and what is downstream. If the champion is a model "
        "of it: `mnist-pipeline champion --rollback`, until it is one of another source"
    )


def of_file(filename: str) -> Source:
    """Return the source that serves a file. Raises FormatError where none does."""
    for source in SOURCES:
        if filename in source.files:
            return source
    raise FormatError(f"{filename} is not a file of any source: materialize raw_mnist")
