"""The engine's public names as a user writes them: mypy checks this file, nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import dagster as dg
import numpy as np
import numpy.typing as npt
import pandas as pd

from mnist_pipeline import incremental as inc
from mnist_pipeline.incremental import (
    AssetStatus,
    CheckResult,
    Codec,
    Pipeline,
    PipelineError,
    Result,
    RunResult,
    Session,
    asset,
    codecs,
    content_digest,
    open_store,
)


class Array:
    """A value with a data version of its own."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = values

    @property
    def data_version(self) -> str:
        """Digest of the content."""
        return assert_type(content_digest(self.values, "text", b"bytes", {"scale": 1}), str)


def load(data: bytes, name: str) -> Array:
    return Array(np.frombuffer(data))


assert_type(Codec("array.bin", lambda array: array.values.tobytes(), load), Codec[Array])
assert_type(codecs.text("summary.txt"), Codec[str])
assert_type(codecs.document("model.json"), Codec[Any])
assert_type(codecs.table("table.parquet"), Codec[pd.DataFrame])
arrays: Codec[Array] = Codec(
    lambda array: f"{array.values.size}.bin",
    lambda array: array.values.tobytes(),
    load,
    version=lambda array: array.data_version,
)
Codec("array.bin", lambda array: array.values, load)  # type: ignore[arg-type, return-value]


def not_empty(array: Array) -> CheckResult:
    """There are values."""
    return CheckResult("not_empty", array.values.size > 0, "values", {"size": array.values.size})


def named(array: Array) -> str:
    """Not a check: it returns no result of one."""
    return "array"


@asset(arrays, blocking=[not_empty], group_name="arrays", kinds={"numpy"}, reuse=False)
def source(context: dg.AssetExecutionContext, scale: dg.ResourceParam[float]) -> Result:
    array = Array(np.ones(3) * scale)
    return Result(array, [not_empty(array)], {"size": array.values.size})


@asset(codecs.text("summary.txt"), key=["texts", "summary"], inputs={"array": source.key})
def summary(array: Array) -> str:
    return str(array.values.sum())


asset("summary.txt")  # type: ignore[arg-type]
asset(arrays, warning=[named])  # type: ignore[list-item]
asset(arrays, reuse="no")  # type: ignore[arg-type]


pipeline = Pipeline(
    name="arrays",
    module="arrays",
    assets=[source, summary],
    store=open_store("s3://bucket/prefix", locks=Path("locks")),
    home=Path("home"),
    inputs={"scale": 1.0},
    cron="@daily",
)
assert_type(pipeline.definitions, dg.Definitions)
assert_type(pipeline.load(), dg.Definitions)
assert_type(inc.no_such_name, Any)  # type: ignore[attr-defined]
inc.Pipeline(name="arrays", assets=[source])  # type: ignore[call-arg]


def use() -> None:
    try:
        with pipeline.session(print) as session:
            assert_type(session, Session)
            assert_type(session.refresh(), RunResult)
            assert_type(session.refresh(verify=True).computed, list[str])
            assert_type(session.run([source.key], force=True).error, str | None)
            assert_type(session.run().success, bool)
            assert_type(session.status(), dict[dg.AssetKey, AssetStatus])
            assert_type(session.plan(session.status()), list[str])
            assert_type(session.select("key:source+"), list[dg.AssetKey])
            assert_type([event.reused_from for event in session.history()], list[str | None])
            assert_type([one.size for one in session.collect_garbage(keep=1)], list[int])
            session.run("source")  # type: ignore[arg-type]
    except PipelineError as error:
        assert_type(error, PipelineError)
