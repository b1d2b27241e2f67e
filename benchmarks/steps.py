"""The steps that are measured, each a process: `python -m benchmarks.steps NAME ARGUMENTS`.

Each prints one JSON document of what it measured: seconds of its parts, accuracy.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.table import TRAIN_ROWS, DigitTable
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.model import prediction, training
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode

Numbers = dict[str, float]


def tutorial(archive: str) -> Numbers:
    """The tutorial's own fit: raw pixels, `SGDClassifier`'s defaults, one core."""
    from sklearn.linear_model import SGDClassifier

    drawn = _drawn(archive)
    pixels = drawn.train.pixels.astype(np.float64)
    start = time.perf_counter()
    fitted = SGDClassifier(random_state=42).fit(pixels, drawn.train.labels)
    seconds = time.perf_counter() - start
    accuracy = fitted.score(drawn.test.pixels.astype(np.float64), drawn.test.labels)
    return {"fit": seconds, "epochs": int(fitted.n_iter_), "accuracy": float(accuracy)}


def reference(archive: str) -> Numbers:
    """The yardstick: the same on pixels / 255 in float32, over two cores."""
    from sklearn.linear_model import SGDClassifier

    drawn = _drawn(archive)
    X, X_test = (part.pixels.astype(np.float32) / np.float32(255) for part in drawn)
    start = time.perf_counter()
    fitted = SGDClassifier(n_jobs=2, random_state=42).fit(X, drawn.train.labels)
    seconds = time.perf_counter() - start
    return {"fit": seconds, "accuracy": float(fitted.score(X_test, drawn.test.labels))}


def decode_and_split(archive: str, folder: str) -> Numbers:
    """From the archive to both Parquet files."""
    start = time.perf_counter()
    for name, part in _drawn(archive)._asdict().items():
        part.write(Path(folder, f"{name}_set.parquet"))
    return {"decode and split": time.perf_counter() - start}


def read_splits(folder: str) -> Numbers:
    """Both Parquet files, as a step reads them."""
    import pyarrow.parquet  # noqa: F401 - not to be measured

    start = time.perf_counter()
    rows = sum(len(Digits.read(Path(folder, f"{name}_set.parquet"))) for name in ("train", "test"))
    return {"read": time.perf_counter() - start, "rows": rows}


def preset(archive: str, name: str, own: str = "") -> Numbers:
    """A preset on the tutorial's split, or (`own`) on MNIST's own 60,000 and 10,000."""
    import sklearn.linear_model  # noqa: F401 - the reference has it imported too

    drawn = _own_split(archive) if own else _drawn(archive)
    params = ModelParams.model_validate({"preset": name})
    start = time.perf_counter()
    if params.hold_out:
        parts = validation.hold_out(drawn.train, size=0.1, random_state=42)
    else:
        parts = validation.all_rows(drawn.train)

    def report(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr)

    model = training.fit(params, parts, report)
    fitted = time.perf_counter() - start
    predictions = prediction.predict(model, drawn.test)
    predicted = time.perf_counter() - start - fitted
    evaluation = metrics.evaluate(predictions)
    start = time.perf_counter()
    if len(model.pipeline) > 1:
        in_batches(model.pipeline[:-1].transform, drawn.test.pixels)
    found = {
        "features and fit": fitted,
        "features": time.perf_counter() - start,
        "predict": predicted,
        "accuracy": evaluation.accuracy,
        "ece": evaluation.ece,
    }
    return {name: number for name, number in found.items() if number is not None}


def _table(archive: str) -> DigitTable:
    file = Path(archive)
    return decode(Archive(file.read_bytes(), file.name))


def _drawn(archive: str) -> Split:
    return split(_table(archive), test_size=0.2, random_state=42)


def _own_split(archive: str) -> Split:
    table = _table(archive)
    # of no split that `Origin` could name: nothing here asks it
    origin = Origin(table.source, table.digest, len(table.labels), table.is_mnist, 1 / 7, 0)
    rows = np.arange(len(table.labels), dtype=np.int32)
    parts = rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]
    return Split(*(Digits(row, table.pixels[row], table.labels[row], origin) for row in parts))


STEPS: dict[str, Callable[..., Numbers]] = {
    step.__name__: step for step in (tutorial, reference, decode_and_split, read_splits, preset)
}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
