"""How far an image is from the training digits, compared with digits held out of the fit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.features.batches import in_batches

MOST_REFERENCES = 4000
MOST_HELD_OUT = 2000

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reference:
    """Training digits to compare with, and how far held-out digits are from them.

    Attributes
    ----------
    pixels : uint8 array of shape (n, width * width)
    labels : uint8 array of shape (n,)
    distances : float32 array of shape (m,)
        Of the held-out digits from the nearest of these, in the space of `_features`.
    nearest : uint8 array of shape (m,)
        The labels of those nearest ones.
    """

    pixels: Pixels
    labels: npt.NDArray[np.uint8]
    distances: npt.NDArray[np.float32]
    nearest: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, pixels: Pixels, labels: npt.NDArray[np.uint8], held_out: Pixels) -> "Reference":
        """Keep the first training digits, and measure the first held-out ones.

        The rows of a split are shuffled: the first ones are a sample.
        """
        pixels, labels = pixels[:MOST_REFERENCES], labels[:MOST_REFERENCES]
        empty = cls(pixels, labels, np.empty(0, np.float32), np.empty(0, np.uint8))
        distances, nearest = empty.distance(held_out[:MOST_HELD_OUT])
        d2,n2=empty.distance(pixels,1)
        distances=np.concatenate([distances,d2]); nearest=np.concatenate([nearest,n2])
        return cls(pixels, labels, distances, nearest)

    @cached_property
    def _points(self) -> npt.NDArray[np.float32]:
        return _features(self.pixels)

    def distance(self, pixels: Pixels, skip: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Return how far images, shape (n, pixels), are from the nearest digit, and its label."""
        own = np.square(self._points).sum(axis=1)

        def nearest(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            squares = np.square(points).sum(axis=1, keepdims=True) - 2 * points @ self._points.T
            squares += own
            place = np.argpartition(squares, skip, axis=1)[:, skip]
            least = squares[np.arange(len(points)), place]
            return np.stack([np.sqrt(np.maximum(least, 0)), self.labels[place]], axis=1)

        found = in_batches(nearest, _features(pixels))
        return found[:, 0].astype(np.float32), found[:, 1].astype(np.uint8)

    @cached_property
    def _by_class(self) -> list[npt.NDArray[np.float32]]:
        of = [np.sort(self.distances[self.nearest == digit]) for digit in range(CLASSES)]
        return [one if len(one) else np.sort(self.distances) for one in of]

    def compare(self, pixels: Pixels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the typicality of images (0-1), and their distance in units of the farthest.

        """
        distances, labels = self.distance(pixels)
        typical, ratio = np.empty((2, len(pixels)))
        for place, (distance, label) in enumerate(zip(distances, labels, strict=True)):
            held_out = self._by_class[label]
            farther = len(held_out) - np.searchsorted(held_out, distance)
            typical[place] = farther / len(held_out)
            ratio[place] = distance / held_out[-1]
        return typical, ratio


def _features(pixels: Pixels) -> npt.NDArray[np.float32]:
    from mnist_pipeline.digits.features.transformers import OrientedGradients, deskew

    width = width_of(pixels)
    upright = in_batches(lambda part: deskew(part, width=width), pixels)
    return np.asarray(OrientedGradients(width=width).fit(upright[:1]).transform(upright))
