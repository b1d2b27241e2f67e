"""What status and reuse cost as the history and the number of assets grow: seconds in one process.

A chain of trivial assets is materialized once. Its history is then filled with further
materializations and results of them, as that many runs would leave. Run it with `make bench`.
"""

import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from mnist_pipeline.incremental import Pipeline, Session, codecs, open_store, results
from mnist_pipeline.incremental.steps import Asset, asset
from mnist_pipeline.incremental.unchanged import QuickAnswers

RECORDED = (10, 1_000, 10_000)
"""Materializations of all assets together: at least one of each."""

ASSETS = (8, 80)

TIMES = 7


@asset(codecs.text("first.txt"))
def first() -> str:
    """The start of the chain."""
    return "text"


@asset(codecs.text("next.txt"))
def following(before: str) -> str:
    """The one before, and a character."""
    return before + "."


def chain(count: int) -> list[Asset]:
    """Return assets that are each computed from the one before."""
    keys = [dg.AssetKey(f"asset_{number}") for number in range(count)]
    assets = [dataclasses.replace(first, key=keys[0])]
    for before, key in itertools.pairwise(keys):
        assets.append(
            dataclasses.replace(following, key=key, inputs={"before": before}, deps=(before,))
        )
    return assets


def fill(session: Session, more: int) -> None:
    """Record so many further materializations and results of each asset, older than the newest."""
    instance = session.instance
    for one in session.pipeline.assets:
        [record] = instance.fetch_materializations(one.key, limit=1).records
        made = record.asset_materialization
        assert made is not None
        for number in range(more):
            version = f"{number:032x}"
            tags = {**(made.tags or {}), "dagster/data_version": version}
            older = dg.AssetMaterialization(one.key, metadata=made.metadata, tags=tags)
            instance.report_runless_asset_event(older)
            earlier = results.Earlier(version, "next.txt", "0" * 64, 1, made.metadata, [], "")
            results.record(instance, one.key, version, earlier)
    session.run(force=True)  # the newest again


def median(call: Callable[[], Any]) -> float:
    """Return the median seconds of a call."""
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measured(count: int, folder: Path) -> list[tuple[int, int, float, float, float]]:
    """Return assets, materializations, and the seconds of a quick answer, status and run."""
    rows = []
    store = open_store(folder / "data", locks=folder / "home")
    pipeline = Pipeline("growth", "benchmarks.growth", chain(count), store, folder / "home")
    with pipeline.session() as session:
        session.run()
        each = 1
        for recorded in RECORDED:
            print(f"{count} assets, {recorded:,} materializations", file=sys.stderr)
            if (more := -(-recorded // count) - each) > 0:
                fill(session, more - 1)
                each += more
            (folder / "package").mkdir(exist_ok=True)
            answers = QuickAnswers(folder / "package", "status")
            answers.begin([], str(folder / "home"))
            sizes = session.local_sizes(session.status())
            assert sizes is not None
            answers.keep("up to date", sizes)
            assert QuickAnswers(folder / "package", "status").find()
            quick = median(lambda: QuickAnswers(folder / "package", "status").find())
            status = median(session.status)
            reused = median(session.run)
            rows.append((count, each * count, quick, status, reused))
    return rows


def table() -> str:
    """Measure and return the Markdown table."""
    rows = []
    for count in ASSETS:
        with tempfile.TemporaryDirectory() as name:
            rows += measured(count, Path(name))
    lines = [
        "| assets | materializations | quick answer, ms | status, ms an asset "
        "| run, all reused, ms an asset |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {count} | {recorded:,} | {1000 * quick:.1f} | {1000 * status / count:.1f} "
        f"| {1000 * reused / count:.0f} |"
        for count, recorded, quick, status, reused in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
