"""The step `summary`: reads what is further upstream, too."""

import pandas as pd

from mnist_pipeline.incremental import asset, codecs

from . import page
from .helpers import called


@asset(codecs.text("summary.html"), upstream=["left"])
def summary(total: int, left: pd.DataFrame) -> str:
    """The total, and the numbers that it was computed from."""
    called("summary")
    return page.fill(total, left["number"].tolist())
