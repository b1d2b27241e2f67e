"""The split into training and test digits: the tutorial's call of scikit-learn, row for row."""

from typing import NamedTuple

from mnist_pipeline.digits.dataset import Digits, Origin
from mnist_pipeline.digits.table import DigitTable


class Split(NamedTuple):
    """The two parts of a table."""

    train: Digits
    test: Digits


def split(table: DigitTable, *, test_size: float, random_state: int) -> Split:
    """Split as `train_test_split(X, y, test_size=..., random_state=...)` does.

    Rows keep the order that scikit-learn gives them; `row_id` says which rows of the table they
    are.

    Parameters
    ----------
    table : DigitTable of n digits
    test_size : float
        Fraction of the rows that goes to the test part, rounded up.
    random_state : int
        Seed of the shuffle.
    """
    count = len(table.labels)
    origin = Origin(table.source, table.digest, count, table.is_mnist, test_size, random_state)
    parts = (Digits(row, table.pixels[row], table.labels[row], origin) for row in origin.draw())
    return Split(*parts)
