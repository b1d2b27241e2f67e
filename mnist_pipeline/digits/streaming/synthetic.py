"""Digits without end: the sample's own, then deformed ones, each made from its row number alone.

The idea is infinite MNIST's: G. Loosli, S. Canu and L. Bottou, "Training invariant support vector
machines using selective sampling", in Large Scale Kernel Machines, 2007. How digits are deformed
is in `elastic`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.streaming.elastic import Deformation, corners_of
from mnist_pipeline.incremental.errors import FormatError

FILENAME = "infinite.json"

BASE = 5000
"""The sample's digits: rows 0-4,999 as they are, and what the others are made from."""

LEAST, MOST = 10_000, 1_000_000_000
"""Rows that a source may have."""

_GENERATOR = 1
"""To be raised whenever a row would get other pixels."""

_STRIDE = 1501
"""From one row's base digit to the next one's: prime to `BASE`, so that each comes as often, and
three classes on, so that any stretch of rows has all of them."""


@dataclass(frozen=True)
class Recipe:
    """All that the digits depend on: the number of rows, the base file, the deformation."""

    rows: int
    base_md5: str = sample.MD5
    deformation: Deformation = Deformation()  # noqa: RUF009 - frozen
    generator: int = _GENERATOR

    def archive(self) -> Archive:
        """Return the recipe as the file that stands for the digits."""
        return Archive(json.dumps(asdict(self), indent=2).encode() + b"\n", FILENAME)


def maker(
    recipe: Recipe, base: npt.NDArray[np.uint8]
) -> Callable[[npt.NDArray[np.integer]], npt.NDArray[np.uint8]]:
    """Return what makes the images of any rows of a recipe: row ids to uint8 of shape (n, 784).

    Parameters
    ----------
    recipe : Recipe
    base : uint8 array of shape (5000, 784)
    """
    corners, deform = corners_of(base), recipe.deformation.prepared().deform

    def made(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        digits = deform(corners, base_of(rows).astype(np.int64), rows)
        as_they_are = rows < BASE
        digits[as_they_are] = base[rows[as_they_are]]
        return digits

    return lambda row_id: in_batches(made, row_id.astype(np.int64))


def rows_named(source: str) -> int | None:
    """Return N of a source `infinite:N`, or None if it is no such source or N is out of range."""
    found = re.fullmatch(r"infinite:(\d{1,12})", source)
    return int(found[1]) if found and LEAST <= int(found[1]) <= MOST else None


def recipe_of(archive: Archive) -> Recipe:
    """Read the file that stands for the digits.

    Raises
    ------
    FormatError
        It is no recipe, or one of another generator or base than those that are here.
    """
    try:
        content = json.loads(archive.data)
        recipe = Recipe(**(content | {"deformation": Deformation(**content["deformation"])}))
        known = recipe == Recipe(recipe.rows) and LEAST <= recipe.rows <= MOST
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{archive.filename} is no recipe for digits: {error!r}") from None
    if not known:
        raise FormatError(
            f"{archive.filename} is a recipe for other digits than the code here makes: "
            "materialize raw_mnist"
        )
    return recipe


def base_of(row_id: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return the base digit, 0-4,999, that each row is made from, in the type of the row ids."""
    base = row_id % BASE
    base *= _STRIDE
    base %= BASE
    np.copyto(base, row_id, where=row_id < BASE)
    return base


def draw(
    rows: int, *, test_size: float, random_state: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the row ids of the training and of the test part.

    Base digits are split as the tutorial splits, and every other row goes where its base digit
    goes: of no test digit is a deformed one ever learnt from. Within a part, rows are shuffled.
    """
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(np.arange(BASE), test_size=test_size, random_state=random_state)
    is_test = np.zeros(BASE, bool)
    is_test[test] = True
    in_test = is_test[base_of(np.arange(rows, dtype=np.int32))]
    # its stream is the same in every numpy
    shuffle = np.random.RandomState(random_state).permutation
    train_rows, test_rows = (
        shuffle(np.flatnonzero(part).astype(np.int32)) for part in (~in_test, in_test)
    )
    return train_rows, test_rows
