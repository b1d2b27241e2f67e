"""The checks of the splits: what must hold of rows, images and labels before a fit."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits, columns
from mnist_pipeline.digits.data.shape import CLASSES
from mnist_pipeline.digits.data.split import Split
from mnist_pipeline.digits.data.table import ROWS, DigitTable
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
    found = {field.name: str(field.type) for field in digits[:0].to_arrow().schema}
    lowest, highest = int(digits.pixels.min()), int(digits.pixels.max())
    top = int(digits.labels.max())
    as_expected = list(found.items()) == list(columns(digits.pixels.shape[1]).items())
    passed = as_expected and lowest < highest and top < CLASSES
    description = f"{len(found)} columns, pixels from {lowest} to {highest}, classes up to {top}"
    return CheckResult(
        "schema_and_range", passed, description, {"pixel_min": lowest, "pixel_max": highest}
    )


def row_counts(table: DigitTable, drawn: Split) -> CheckResult:
    """Training and test rows are all rows of the source, the test part its share rounded up.

    Of generated digits it is the share of the base, each of which comes as often as the others or
    once more.
    """
    train, test, rows = len(drawn.train), len(drawn.test), len(table.labels)
    base = len(table.pixels)
    share = int(np.ceil(drawn.test.origin.test_size * base))
    least, most = share * (rows // base), share * -(-rows // base)
    expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    description = (
        f"{train:,} training and {test:,} test rows of {rows:,}, expected {expected} test rows"
    )
    passed = train + test == rows and least <= test <= most
    return CheckResult("row_counts", passed, description, {"train": train, "test": test})


def class_balance(digits: Digits) -> CheckResult:
    """Every class has about a tenth of the rows."""
    shares = np.bincount(digits.labels, minlength=CLASSES) / len(digits)
    worst = int(np.abs(shares - 1 / CLASSES).argmax())
    passed = bool(np.abs(shares * CLASSES - 1).max() <= UNBALANCED)
    share = float(shares[worst])
    description = f"class {worst} is furthest from a tenth of the rows: {share:.1%}"
    return CheckResult("class_balance", passed, description, {"class": worst, "share": share})


def disjoint(drawn: Split) -> CheckResult:
    """No test row is a training row, and no test image is a training image under another row.

    Nor is a test row made from the same base digit as a training row.
    """
    train, test = drawn
    together = train.origin.together
    found = {
        "rows": len(np.intersect1d(train.row_id, test.row_id)),
        "bases": len(np.intersect1d(together(train.row_id), together(test.row_id))),
        "images": _images_in_both(train, test),
    }
    description = (
        f"{found['rows']} rows, {found['bases']} base digits and {found['images']} images are in "
        "both parts"
    )
    return CheckResult("disjoint", not any(found.values()), description, {**found})


def equals_sklearn(table: DigitTable, drawn: Split, part: Literal["train", "test"]) -> CheckResult:
    """Pixels and labels are those of the tutorial's own call on the source's table, row for row.

    Of generated digits, those of the base are, in any order, and the others have its labels.
    """
    from sklearn.model_selection import train_test_split

    origin, base = drawn.train.origin, len(table.pixels)
    call = {"test_size": origin.test_size, "random_state": origin.random_state}
    both = train_test_split(table.pixels, table.labels[:base], np.arange(base), **call)
    X, y, expected = both[part == "test" :: 2]
    digits: Digits = getattr(drawn, part)
    own = np.flatnonzero(digits.row_id < base)
    if table.bases:
        own = own[np.argsort(digits.row_id[own])]
        order = np.argsort(expected)
        X, y = X[order], y[order]
    passed = (
        np.array_equal(digits.pixels[own], X)
        and np.array_equal(digits.labels[own], y)
        and np.array_equal(digits.labels, table.labels[origin.together(digits.row_id)])
    )
    description = (
        f"{len(own):,} digits are {'equal to' if passed else 'different from'} those of "
        f"train_test_split(X, y, test_size={origin.test_size}, random_state={origin.random_state})"
    )
    return CheckResult("equals_sklearn", passed, description, {"compared": len(own)})


def is_mnist(table: DigitTable) -> CheckResult:
    """A source of all of MNIST has it: as IDX files, its digits have the four MD5 sums.

    Other sources pass.
    """
    count, passed = len(table.labels), table.is_mnist or not table.promises_mnist
    if table.is_mnist:
        description = "the four IDX files have MNIST's md5 sums"
    elif passed:
        description = f"not applicable: {table.source} has {count:,} digits of its own"
    else:
        description = f"{count:,} digits that are not all {ROWS:,} of MNIST in its order"
    return CheckResult("is_mnist", passed, description)


def _images_in_both(train: Digits, test: Digits) -> int:
    """Count images that are in both parts: those with equal hashes, compared byte by byte."""
    of_train, of_test = _hashes(train), _hashes(test)
    known = {one.tobytes() for one in train.pixels[np.flatnonzero(np.isin(of_train, of_test))]}
    suspects = test.pixels[np.flatnonzero(np.isin(of_test, of_train))]
    return len(known & {one.tobytes() for one in suspects})


def _hashes(digits: Digits) -> npt.NDArray[np.int64]:
    return np.fromiter((hash(image.tobytes()) for image in digits.pixels), np.int64, len(digits))
