"""Digits without end, more and more of them: seconds a row of each step, memory, accuracy.

Each number of rows is two processes: the steps one after another, and the whole pipeline through
the command line. The tables go between the marks in `docs/scaling.md`. Run it with
`python -m benchmarks.scale`, or with numbers of rows; the default takes about half an hour.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import Measured, measure
from benchmarks.tables import machine
from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.data import checks, validation
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import IN_MEMORY
from mnist_pipeline.digits.data.split import split
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.model import prediction, training
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.digits.streaming import synthetic

ROWS = (70_000, 700_000, 2_800_000)

MARKS = "<!-- measured: written by benchmarks/scale.py -->", "<!-- end of measured -->"


def steps(rows: int) -> dict[str, Any]:
    """Make, file, fit, predict and evaluate so many digits; return seconds, bytes, accuracies."""
    # not to be measured
    import pyarrow.parquet  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    found: dict[str, Any] = {"rows": rows}
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        train = _filed(rows, "train", folder, found, clock)
        test = _filed(rows, "test", folder, found, clock)
        parts = validation.hold_out(train, size=0.1, random_state=42)
        found |= {"hold_out": clock(), "fitted": len(parts.fitted), "test": len(test)}
        reports = _Reports()
        model = training.fit(ModelParams(), parts, reports)
        # of what is streamed, the time until features are kept has these rows too
        more = len(parts.held_out or ()) + ModelParams().n_whitening
        found["made"] = len(parts.fitted) + (more if rows > IN_MEMORY else 0)
        found |= {"fit_all": clock(), **reports.found}
        predictions = prediction.predict(model, test)
        found["predict"] = clock()
        evaluation = metrics.evaluate(predictions)
        found |= {"evaluate": clock(), "accuracy": evaluation.accuracy}
        found |= {"validated": model.validated.accuracies if model.validated else []}
        if evaluation.real_test:
            found["real"] = evaluation.real_test["accuracy"]
            found["real_interval"] = evaluation.real_test["accuracy_interval"]
    return found


def _filed(rows: int, part: Any, folder: str, found: dict[str, Any], clock: "_Clock") -> Digits:
    table = decode(synthetic.Recipe(rows).archive())
    drawn = split(table, test_size=0.2, random_state=42, progress=_say)
    digits: Digits = getattr(drawn, part)
    results = checks.of_split(table, drawn, part)
    refused = [result.name for result in results if not result.passed]
    if set(refused) - {"is_mnist"}:
        raise RuntimeError(f"refused: {refused}")
    file = Path(folder, f"{part}.parquet")
    digits.write(file)
    found[f"{part}_set"] = clock()
    found[f"{part}_bytes"] = file.stat().st_size
    opened = Digits.read(file)
    found[f"open_{part}"] = clock()
    return opened


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        """Seconds since it was last asked."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


class _Reports:
    """Takes times from what a fit says: when the features are there, how long each epoch was."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self.found: dict[str, Any] = {"features": 0.0, "epochs": []}

    def __call__(self, text: str) -> None:
        _say(text)
        if "features are" in text:
            self.found["features"] += self._clock()
        if epoch := re.match(r"epoch \d+: .*\(([\d.]+) s\)", text):
            self.found["epochs"].append(float(epoch[1]))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def whole(rows: int) -> Measured:
    """Measure the command line, from the recipe to champion and report."""
    with tempfile.TemporaryDirectory() as folder:
        _say(f"measuring mnist-pipeline run on {rows:,} rows")
        return measure(
            [sys.executable, "-m", "mnist_pipeline.cli", "run", "--json"],
            MNIST_SOURCE=f"infinite:{rows}",
            MNIST_DATA_DIR=folder,
            MNIST_PARAMS=str(PROJECT / "params.toml"),
            DAGSTER_HOME=str(Path(folder, "dagster_home")),
        )


def steps_table(measured: list[Measured]) -> str:
    """Microseconds a row of each step, and what came of it."""
    columns = [f"{one.printed['rows']:,}" for one in measured]
    lines = [f"| rows | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]

    def line(name: str, value: Callable[[dict[str, Any]], str]) -> None:
        lines.append(f"| {name} | {' | '.join(value(one.printed) for one in measured)} |")

    def per_row(name: str, key: str, of: str) -> None:
        line(name, lambda one: f"{1e6 * one[key] / one[of]:.1f}")

    line(
        "decode (make, check and file both parts), us a row",
        lambda one: f"{1e6 * (one['train_set'] + one['test_set']) / one['rows']:.1f}",
    )
    per_row("features, us a row", "features", "made")
    line(
        "fit, us a fitted row and epoch",
        lambda one: f"{1e6 * sum(one['epochs']) / len(one['epochs']) / one['fitted']:.1f}",
    )
    line("epochs", lambda one: str(len(one["epochs"])))
    line("fit with features, s", lambda one: f"{one['fit_all']:.1f}")
    per_row("predict, us a test row", "predict", "test")
    per_row("evaluate, us a test row", "evaluate", "test")
    line(
        "files, bytes a row",
        lambda one: f"{(one['train_bytes'] + one['test_bytes']) / one['rows']:.0f}",
    )
    line("accuracy on all test digits", lambda one: f"{one['accuracy']:.2%}")
    line(
        "accuracy on the 1,000 real test digits (95%)",
        lambda one: (
            f"{one['real']:.1%} ({one['real_interval'][0]:.1%} to {one['real_interval'][1]:.1%})"
        ),
    )
    peaks = " | ".join(f"{one.megabytes:,.0f}" for one in measured)
    lines.append(f"| peak memory, MB | {peaks} |")
    return "\n".join(lines)


def whole_table(rows: list[int], measured: list[Measured]) -> str:
    """Seconds and memory of the command line."""
    lines = ["| `mnist-pipeline run`, rows | s | us a row | peak memory, MB |", "|---|---|---|---|"]
    for count, one in zip(rows, measured, strict=True):
        each = 1e6 * one.seconds / count
        lines.append(f"| {count:,} | {one.seconds:.0f} | {each:.0f} | {one.megabytes:,.0f} |")
    return "\n".join(lines)


def main(rows: list[int]) -> None:
    """Measure every number of rows in turn and write the tables."""
    of_steps = []
    for count in rows:
        _say(f"measuring {count:,} rows")
        of_steps.append(measure([sys.executable, "-m", "benchmarks.scale", "--steps", str(count)]))
    tables = [machine(), steps_table(of_steps), whole_table(rows, [whole(one) for one in rows])]
    text = "\n\n".join(tables)
    page = PROJECT / "docs" / "scaling.md"
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--steps"]:
        print(json.dumps(steps(int(sys.argv[2]))))
    else:
        main([int(one) for one in sys.argv[1:]] or list(ROWS))
