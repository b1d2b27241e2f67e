"""The step `source`: asks where the numbers are, each time."""

from pathlib import Path

import dagster as dg

from mnist_pipeline.incremental import asset, codecs

from .helpers import called


@asset(codecs.text("numbers.txt"), reuse=False)
def source(numbers_file: dg.ResourceParam[Path]) -> str:
    """The numbers as they are served."""
    called("source")
    return numbers_file.read_text()
