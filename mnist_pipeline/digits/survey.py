"""The checks of a split of generated digits, in one pass over both parts, which also files one.

They are those of `checks`, with a bound on memory.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits import checks, filed, infinite
from mnist_pipeline.digits.dataset import COLUMNS, Digits
from mnist_pipeline.digits.infinite import BASE, Generated
from mnist_pipeline.digits.pixels import LazyPixels, chunks_of
from mnist_pipeline.digits.progress import NowAndThen, Report
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.digits.split import Split
from mnist_pipeline.digits.table import DigitTable
from mnist_pipeline.incremental.check import CheckResult


@dataclass
class Seen:
    """What is noted of a part while its rows come by.

    Attributes
    ----------
    lowest, highest : int
        Of all pixels.
    hashes : list of uint64 arrays
        One number an image.
    base : dict
        Images of the rows that are not deformed, by row id.
    """

    lowest: int = 255
    highest: int = 0
    hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    base: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def note(self, part: Digits) -> None:
        """Note some rows, in memory."""
        self.lowest = min(self.lowest, int(part.pixels.min()))
        self.highest = max(self.highest, int(part.pixels.max()))
        self.hashes.append(_hashes(part.pixels))
        for place in np.flatnonzero(part.row_id < BASE):
            self.base[int(part.row_id[place])] = part.pixels[place].copy()


def survey(
    table: DigitTable,
    drawn: Split,
    part: Literal["train", "test"],
    report: Report = lambda text: None,
) -> tuple[Digits, list[CheckResult]]:
    """Check a split of generated digits; file the part that is asked for where it is lazy.

    Returns
    -------
    digits : Digits
        The part; `FiledDigits` where its pixels are lazy.
    results : list of CheckResult
        Named as those of `checks.of_split`.
    """
    say, done = NowAndThen(report), 0
    total = len(drawn.train) + len(drawn.test)
    digits: Digits = getattr(drawn, part)
    seen: dict[str, Seen] = {}
    for name, one in drawn._asdict().items():
        notes = seen[name] = Seen()

        def watch(rows: Digits, notes: Seen = notes) -> None:
            nonlocal done
            notes.note(rows)
            done += len(rows)
            say(f"{done:,} of {total:,} digits are made")

        if name == part and isinstance(one.pixels, LazyPixels):
            digits = filed.write(one, watch)
        else:
            for rows in chunks_of(one):
                watch(rows)
    return digits, [
        _schema_and_range(digits, seen[part]),
        _row_counts(table, drawn),
        checks.class_balance(digits),
        _disjoint(drawn, seen["train"], seen["test"]),
        _equals_sklearn(table, drawn, part, seen[part]),
        checks.is_mnist(table),
    ]


def _schema_and_range(digits: Digits, seen: Seen) -> CheckResult:
    found = {one.name: str(one.type) for one in digits[:1].to_arrow().schema}
    top = int(digits.labels.max())
    as_filed = list(found.items()) == list(COLUMNS.items())
    passed = as_filed and seen.lowest < seen.highest and top < CLASSES
    description = (
        f"{len(found)} columns, pixels from {seen.lowest} to {seen.highest}, classes up to {top}"
    )
    return CheckResult(
        "schema_and_range",
        passed,
        description,
        {"pixel_min": seen.lowest, "pixel_max": seen.highest},
    )


def _row_counts(table: DigitTable, drawn: Split) -> CheckResult:
    train, test, rows = len(drawn.train), len(drawn.test), len(table.labels)
    base = int(np.ceil(drawn.test.origin.test_size * BASE))
    # each base digit comes as often as the others, or once more
    least, most = base * (rows // BASE), base * -(-rows // BASE)
    description = (
        f"{train:,} training and {test:,} test rows of {rows:,}, expected {least:,} to {most:,} "
        f"test rows: those of {base:,} of {BASE:,} base digits"
    )
    return CheckResult("row_counts", train + test == rows and least <= test <= most, description)


def _disjoint(drawn: Split, train: Seen, test: Seen) -> CheckResult:
    is_train = np.zeros(drawn.train.origin.rows, bool)
    is_train[drawn.train.row_id] = True
    rows = int(is_train[drawn.test.row_id].sum())
    bases = len(_bases(drawn.train) & _bases(drawn.test))
    images = _images_in_both(drawn, train, test)
    description = f"{rows} rows, {bases} base digits and {images} images are in both parts"
    return CheckResult(
        "disjoint",
        rows == bases == images == 0,
        description,
        {"rows": rows, "bases": bases, "images": images},
    )


def _images_in_both(drawn: Split, train: Seen, test: Seen) -> int:
    """Count test images that are training images; where hashes are equal, the images are made."""
    known = np.concatenate(test.hashes)
    order = np.argsort(known)
    places, start = [np.empty(0, np.int64)], 0
    for some in train.hashes:
        at = np.searchsorted(known, some, sorter=order)
        found = known[order[np.minimum(at, len(known) - 1)]] == some
        places.append(start + np.flatnonzero(found))
        start += len(some)
    in_train = np.concatenate(places)
    if not len(in_train):
        return 0
    suspects = np.concatenate(train.hashes)[in_train]
    in_test = np.flatnonzero(np.isin(known, suspects))
    images = {image.tobytes() for image in drawn.train.pixels[in_train]}
    return sum(image.tobytes() in images for image in drawn.test.pixels[in_test])


def _equals_sklearn(table: DigitTable, drawn: Split, part: str, seen: Seen) -> CheckResult:
    """The rows that are not deformed are those of the tutorial's own call on the base digits.

    The others have the labels of theirs.
    """
    from sklearn.model_selection import train_test_split

    origin, base = drawn.train.origin, table.pixels
    if not isinstance(base, Generated):
        return CheckResult(
            "equals_sklearn", passed=False, description="the table is not of generated digits"
        )
    call = {"test_size": origin.test_size, "random_state": origin.random_state}
    drawn_by_it = train_test_split(base.base, table.labels[:BASE], np.arange(BASE), **call)
    X, y, expected = drawn_by_it[part == "test" :: 2]
    digits: Digits = getattr(drawn, part)
    own = digits.row_id < BASE
    as_base = np.array_equal(digits.labels, table.labels[infinite.base_of(digits.row_id)])
    labels = dict(zip(digits.row_id[own].tolist(), digits.labels[own].tolist(), strict=True))
    passed = (
        as_base
        and labels == dict(zip(expected.tolist(), y.tolist(), strict=True))
        and all(
            np.array_equal(seen.base[row], image) for row, image in zip(expected, X, strict=True)
        )
    )
    description = (
        f"the {int(own.sum()):,} digits that are not deformed are "
        f"{'those' if passed else 'others than those'} of train_test_split(X, y, "
        f"test_size={origin.test_size}, random_state={origin.random_state})"
    )
    return CheckResult("equals_sklearn", passed, description)


def _bases(digits: Digits) -> set[int]:
    return set(np.unique(infinite.base_of(digits.row_id)).tolist())


def _hashes(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return 64 bits an image: equal ones of equal images, and hardly of others."""
    words = np.ascontiguousarray(pixels).view(np.uint64)
    odd = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = words ^ (words >> np.uint64(31))
    mixed *= odd | np.uint64(1)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    total: npt.NDArray[np.uint64] = mixed.sum(axis=1, dtype=np.uint64)
    return total
