"""The step `total`, with a codec of its own."""

from pathlib import Path

import dagster as dg
import pandas as pd

from mnist_pipeline.incremental import Codec, asset, content_digest

from .helpers import called


def _write(value: int, file: Path) -> None:
    file.write_text(str(value))


number = Codec[int](
    lambda value: f"total{value}.txt",
    version=lambda value: content_digest({"total": value}),
    write=_write,
    open=lambda file: int(file.read_text()),
)


@asset(number, inputs={"right": dg.AssetKey(["group", "right"])})
def total(left: pd.DataFrame, right: list[int]) -> int:
    """The sum of everything."""
    called("total")
    return int(left["number"].sum()) + sum(right)
