"""The guards of the splits: what must hold of rows, images and labels before anybody learns."""

import hashlib
from typing import Literal

import numpy as np

from mnist_pipeline.digits import mnist
from mnist_pipeline.digits.dataset import COLUMNS, Digits
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.digits.split import Split
from mnist_pipeline.digits.table import DigitTable
from mnist_pipeline.incremental.check import Verdict

UNBALANCED = 0.5
"""A class whose share is off from a tenth by more than this fraction of it is worth a look."""


def of_split(table: DigitTable, drawn: Split, part: Literal["train", "test"]) -> list[Verdict]:
    """All guards of one part of a split, against the table that it was drawn from."""
    digits: Digits = getattr(drawn, part)
    return [
        schema_and_range(digits),
        row_counts(table, drawn),
        class_balance(digits),
        disjoint(drawn),
        equals_sklearn(table, drawn, part),
        is_mnist(table),
    ]


def schema_and_range(digits: Digits) -> Verdict:
    """The columns are OpenML's with `row_id` in front, pixels 0-255 with ink, classes 0-9."""
    found = {field.name: str(field.type) for field in digits.to_arrow().schema}
    lowest, highest = int(digits.pixels.min()), int(digits.pixels.max())
    top = int(digits.labels.max())
    passed = list(found.items()) == list(COLUMNS.items()) and lowest < highest and top < CLASSES
    saw = f"{len(found)} columns, pixels from {lowest} to {highest}, classes up to {top}"
    return Verdict("schema_and_range", passed, saw, {"pixel_min": lowest, "pixel_max": highest})


def row_counts(table: DigitTable, drawn: Split) -> Verdict:
    """Training and test rows are all rows of the source, the test part its share rounded up."""
    train, test, rows = len(drawn.train), len(drawn.test), len(table.labels)
    expected = int(np.ceil(drawn.test.origin.test_size * rows))
    saw = f"{train:,} training and {test:,} test rows of {rows:,}, expected {expected:,} test rows"
    return Verdict("row_counts", train + test == rows and test == expected, saw)


def class_balance(digits: Digits) -> Verdict:
    """Every class has about a tenth of the rows."""
    shares = np.bincount(digits.labels, minlength=CLASSES) / len(digits)
    worst = int(np.abs(shares - 1 / CLASSES).argmax())
    passed = bool(np.abs(shares * CLASSES - 1).max() <= UNBALANCED)
    saw = f"class {worst} is furthest from a tenth of the rows: {shares[worst]:.1%}"
    return Verdict("class_balance", passed, saw)


def disjoint(drawn: Split) -> Verdict:
    """No test row is a training row, and no test image is a training image under another row."""
    rows = len(np.intersect1d(drawn.train.row_id, drawn.test.row_id))
    images = len(_images(drawn.train) & _images(drawn.test))
    saw = f"{rows} rows and {images} images are in both parts"
    return Verdict("disjoint", rows == images == 0, saw, {"rows": rows, "images": images})


def equals_sklearn(table: DigitTable, drawn: Split, part: Literal["train", "test"]) -> Verdict:
    """Pixels and labels are those of the tutorial's own call on the source's table, row for row."""
    from sklearn.model_selection import train_test_split

    origin = drawn.train.origin
    X_train, X_test, y_train, y_test = train_test_split(
        table.pixels, table.labels, test_size=origin.test_size, random_state=origin.random_state
    )
    X, y = (X_train, y_train) if part == "train" else (X_test, y_test)
    digits: Digits = getattr(drawn, part)
    passed = np.array_equal(digits.pixels, X) and np.array_equal(digits.labels, y)
    saw = (
        f"{'equal to' if passed else 'different from'} train_test_split(X, y, "
        f"test_size={origin.test_size}, random_state={origin.random_state})"
    )
    return Verdict("equals_sklearn", passed, saw)


def is_mnist(table: DigitTable) -> Verdict:
    """The source's digits are all of MNIST: written as IDX files they have its four MD5 sums."""
    if table.is_mnist:
        saw = "the four IDX files have MNIST's md5 sums"
    else:
        saw = f"{len(table.labels):,} digits that are not all {mnist.ROWS:,} of MNIST in its order"
    return Verdict("is_mnist", table.is_mnist, saw)


def _images(digits: Digits) -> set[bytes]:
    return {hashlib.blake2b(image, digest_size=16).digest() for image in digits.pixels}
