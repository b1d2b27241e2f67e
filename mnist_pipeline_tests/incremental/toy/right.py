"""The step `group/right`."""

from mnist_pipeline.incremental import asset, codecs

from .helpers import called
from .numbers import parse


@asset(codecs.document("right.json"), key=["group", "right"])
def right(source: str) -> list[int]:
    """The numbers, negated."""
    called("group/right")
    return [-number for number in parse(source)]
