"""The checks of the splits: what must hold of rows, images and labels before a fit."""

import hashlib
from typing import Literal

import numpy as np

from mnist_pipeline.digits import mnist
from mnist_pipeline.digits.dataset import COLUMNS, Digits
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.digits.split import Split
from mnist_pipeline.digits.table import DigitTable
from mnist_pipeline.incremental.check import CheckResult

UNBALANCED = 0.5
"""A class whose share is off from a tenth by more than this fraction of it is worth a look."""


def of_split(table: DigitTable, drawn: Split, part: Literal["train", "test"]) -> list[CheckResult]:
    """Run all checks of one part of a split, against the table that it was drawn from."""
    digits: Digits = getattr(drawn, part)
    return [
        schema_and_range(digits),
        row_counts(table, drawn),
        class_balance(digits),
        disjoint(drawn),
        equals_sklearn(table, drawn, part),
        is_mnist(table),
    ]


def schema_and_range(digits: Digits) -> CheckResult:
    """The columns are OpenML's with `row_id` in front, pixels 0-255 with ink, classes 0-9."""
    found = {field.name: str(field.type) for field in digits.to_arrow().schema}
    lowest, highest = int(digits.pixels.min()), int(digits.pixels.max())
    top = int(digits.labels.max())
    passed = list(found.items()) == list(COLUMNS.items()) and lowest < highest and top < CLASSES
    description = f"{len(found)} columns, pixels from {lowest} to {highest}, classes up to {top}"
    return CheckResult(
        "schema_and_range", passed, description, {"pixel_min": lowest, "pixel_max": highest}
    )


def row_counts(table: DigitTable, drawn: Split) -> CheckResult:
    """Training and test rows are all rows of the source, the test part its share rounded up."""
    train, test, rows = len(drawn.train), len(drawn.test), len(table.labels)
    expected = int(np.ceil(drawn.test.origin.test_size * rows))
    description = (
        f"{train:,} training and {test:,} test rows of {rows:,}, expected {expected:,} test rows"
    )
    return CheckResult("row_counts", train + test == rows and test == expected, description)


def class_balance(digits: Digits) -> CheckResult:
    """Every class has about a tenth of the rows."""
    shares = np.bincount(digits.labels, minlength=CLASSES) / len(digits)
    worst = int(np.abs(shares - 1 / CLASSES).argmax())
    passed = bool(np.abs(shares * CLASSES - 1).max() <= UNBALANCED)
    description = f"class {worst} is furthest from a tenth of the rows: {shares[worst]:.1%}"
    return CheckResult("class_balance", passed, description)


def disjoint(drawn: Split) -> CheckResult:
    """No test row is a training row, and no test image is a training image under another row."""
    rows = len(np.intersect1d(drawn.train.row_id, drawn.test.row_id))
    images = len(_images(drawn.train) & _images(drawn.test))
    description = f"{rows} rows and {images} images are in both parts"
    return CheckResult(
        "disjoint", rows == images == 0, description, {"rows": rows, "images": images}
    )


def equals_sklearn(table: DigitTable, drawn: Split, part: Literal["train", "test"]) -> CheckResult:
    """Pixels and labels are those of the tutorial's own call on the source's table, row for row."""
    from sklearn.model_selection import train_test_split

    origin = drawn.train.origin
    X_train, X_test, y_train, y_test = train_test_split(
        table.pixels, table.labels, test_size=origin.test_size, random_state=origin.random_state
    )
    X, y = (X_train, y_train) if part == "train" else (X_test, y_test)
    digits: Digits = getattr(drawn, part)
    passed = np.array_equal(digits.pixels, X) and np.array_equal(digits.labels, y)
    description = (
        f"{'equal to' if passed else 'different from'} train_test_split(X, y, "
        f"test_size={origin.test_size}, random_state={origin.random_state})"
    )
    return CheckResult("equals_sklearn", passed, description)


def is_mnist(table: DigitTable) -> CheckResult:
    """The source's digits are all of MNIST: written as IDX files they have its four MD5 sums."""
    if table.is_mnist:
        description = "the four IDX files have MNIST's md5 sums"
    else:
        description = (
            f"{len(table.labels):,} digits that are not all {mnist.ROWS:,} of MNIST in its order"
        )
    return CheckResult("is_mnist", table.is_mnist, description)


def _images(digits: Digits) -> set[bytes]:
    return {hashlib.blake2b(image, digest_size=16).digest() for image in digits.pixels}
