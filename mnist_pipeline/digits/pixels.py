"""Pixels that are not all in memory: made, or read, where they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.shape import PIXELS
from mnist_pipeline.incremental.digest import Chunked

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CHUNK = 1 << 14
"""Rows at a time of what is too large for memory: a row group of the files."""

IN_MEMORY = 200_000
"""A source with more rows than this is never whole in memory: 157 MB of pixels."""


class LazyPixels(ABC):
    """What looks like a uint8 array of shape (n, 784) to those who ask for some rows of it."""

    dtype = np.dtype(np.uint8)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _at(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Return the rows at these places, in their order."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and pixels."""
        return len(self), PIXELS

    def __getitem__(
        self, rows: int | np.integer | slice | npt.NDArray[np.integer]
    ) -> npt.NDArray[np.uint8]:
        """Return one row, or some, as an array of their own."""
        if isinstance(rows, int | np.integer):
            [image] = self._at(np.array([range(len(self))[rows]]))
            return np.asarray(image)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return self._at(rows)


Pixels: TypeAlias = Any
"""Images, uint8 of shape (n, 784): an array or, of a source with more than `IN_MEMORY` rows, a
`LazyPixels`. Any, so that who knows that it is an array may use it as one; `pixels[:]` is one."""


class Chosen(LazyPixels):
    """Some rows of other pixels, in another order."""

    def __init__(self, pixels: LazyPixels, places: npt.NDArray[np.int32]) -> None:
        self._pixels = pixels
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        return self._pixels[self._places[places]]


def chosen(pixels: Pixels, places: npt.NDArray[np.integer]) -> Pixels:
    """Choose rows: as an array of an array, lazily of lazy pixels."""
    if isinstance(pixels, LazyPixels):
        return Chosen(pixels, places.astype(np.int32, copy=False))
    some: Pixels = pixels[places]
    return some


class Rows(Protocol[T_co]):
    """What has rows, some of which are a slice: pixels, digits."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> T_co: ...


def chunks_of(rows: Rows[T]) -> Iterator[T]:
    """Yield all rows in order, `CHUNK` at a time."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def chunked(pixels: Pixels) -> Chunked:
    """Return pixels as `content_digest` takes an array that comes in parts."""
    return Chunked(pixels.dtype, pixels.shape, chunks_of(pixels))
