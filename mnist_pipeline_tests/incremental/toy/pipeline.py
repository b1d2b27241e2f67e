"""The pipeline."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from mnist_pipeline.incremental import Pipeline, PipelineError, open_store

from .left import left
from .right import right
from .source import source
from .summary import summary
from .total import total

FOLDER = Path(__file__).resolve().parents[1]


def build(**more: Any) -> Pipeline:
    """Return the pipeline as the params file has it now."""
    factor = json.loads((FOLDER / "params.json").read_text())["factor"]
    if factor < 0:
        raise PipelineError(f"factor = {factor}: at least 0 is needed")
    arguments: dict[str, Any] = {
        "name": "toy",
        "module": "toy.pipeline",
        "assets": [source, left, right, total, summary],
        "inputs": {"factor": factor},
        "resources": {"numbers_file": FOLDER / "numbers.txt"},
        "store": open_store(FOLDER / "data", locks=FOLDER / "home"),
        "home": FOLDER / "home",
        "not_counted": {"toy.display"},
        "current": lambda: build(**more),
    }
    return Pipeline(**(arguments | more))


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return build().load()
