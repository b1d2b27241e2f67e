"""The step `left`."""

import dagster as dg
import pandas as pd

from mnist_pipeline.incremental import Result, asset, codecs

from . import display
from .helpers import called
from .numbers import not_empty, parse, small


@asset(codecs.table("left.parquet"), blocking=[not_empty], warning=[small])
def left(source: str, factor: dg.ResourceParam[int]) -> Result:
    """The numbers, scaled."""
    called("left")
    numbers = [number * factor for number in parse(source)]
    checks = [not_empty(numbers), small(numbers)]
    return Result(pd.DataFrame({"number": numbers}), checks, display.shown(numbers))
