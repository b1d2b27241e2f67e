"""The split into training and test digits: the tutorial's call of scikit-learn, row for row."""

from typing import NamedTuple

from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.progress import Progress, silent


class Split(NamedTuple):
    """The two parts of a table."""

    train: Digits
    test: Digits


def split(
    table: DigitTable,
    *,
    test_size: float,
    random_state: int,
    progress: Progress = silent,
) -> Split:
    """Split as `train_test_split(X, y, test_size=..., random_state=...)` does.

    Rows keep the order that scikit-learn gives them; `row_id` holds their rows in the table. Rows
    that are made from others go where these go (`Origin.draw`).

    Raises StoreError where the temporary folder has no room for the images of a large table.
    """
    count = len(table.labels)
    origin = Origin(
        table.source, table.digest, count, table.is_mnist, test_size, random_state, table.bases
    )
    train, test = (
        Digits(row, table.images(row, progress), table.labels[row], origin) for row in origin.draw()
    )
    return Split(train, test)
