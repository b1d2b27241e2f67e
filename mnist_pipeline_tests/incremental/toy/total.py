"""The step `total`, with a codec of its own."""

from typing import BinaryIO

import dagster as dg
import pandas as pd

from mnist_pipeline.incremental import Codec, asset, content_digest

from .helpers import called


def _open(file: BinaryIO, data_version: str) -> int:
    return int(file.read())


number = Codec[int](
    lambda value: f"total{value}.txt",
    lambda value: str(value).encode(),
    lambda data, name: int(data),
    lambda value: content_digest({"total": value}),
    _open,
)


@asset(number, inputs={"right": dg.AssetKey(["group", "right"])})
def total(left: pd.DataFrame, right: list[int]) -> int:
    """The sum of everything."""
    called("total")
    return int(left["number"].sum()) + sum(right)
