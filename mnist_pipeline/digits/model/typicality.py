"""How unlike the training digits an image is, compared with how unlike each other digits are."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.features.batches import in_batches

MOST_FITTED = 4000
MOST_HELD_OUT = 2000
"""Digits of either kind that are kept or measured: enough, and a fraction of a second."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reference:
    """Fitted digits to compare images with, and the distances of known digits from them.

    Known digits are those held out of the fit, and each fitted digit as seen from the others: the
    held-out ones of a small source are too few for the tail of a class.

    `pixels` (uint8 of shape (n, width * width)) and `labels` (uint8) are the fitted digits;
    `distances` (float32) those of m held-out digits and of the n fitted ones from the nearest
    (other) fitted one, `nearest` (uint8) the labels of these, both of shape (m + n,).
    """

    pixels: Pixels
    labels: npt.NDArray[np.uint8]
    distances: npt.NDArray[np.float32]
    nearest: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, fitted: Pixels, labels: npt.NDArray[np.uint8], held_out: Pixels) -> Self:
        """Keep the first fitted digits, with their labels, and measure the first held-out ones.

        Pixels have shape (n, width * width). Their rows are shuffled: the first are a sample.
        """
        pixels, labels = np.array(fitted[:MOST_FITTED]), np.array(labels[:MOST_FITTED])
        unmeasured = cls(pixels, labels, np.empty(0, np.float32), np.empty(0, np.uint8))
        of_held_out = unmeasured.distance(held_out[:MOST_HELD_OUT])
        # the nearest to a fitted digit is itself
        of_fitted = unmeasured.distance(pixels, skipped=1)
        distances = np.concatenate([of_held_out[0], of_fitted[0]])
        return cls(pixels, labels, distances, np.concatenate([of_held_out[1], of_fitted[1]]))

    def distance(
        self, pixels: Pixels, *, skipped: int = 0
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Return how far images are from the nearest fitted digit, and the label of that.

        Distance is the Euclidean one between gradients by orientation of deskewed images: it
        depends less on pens than the one between pixels. `skipped` nearer digits do not count.
        """
        squares = np.square(self._points).sum(axis=1)

        def nearest(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            found = squares - 2 * points @ self._points.T
            place = np.argpartition(found, skipped, axis=1)[:, skipped]
            least = found[np.arange(len(points)), place] + np.square(points).sum(axis=1)
            return np.stack([np.sqrt(np.maximum(least, 0)), self.labels[place]], axis=1)

        both = in_batches(nearest, _features(pixels))
        return both[:, 0].astype(np.float32), both[:, 1].astype(np.uint8)

    def compare(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """Return the typicality of images: the share of known digits that are as far or farther.

        Known digits are those whose nearest one is of the same class: a conformal p-value (R.
        Laxhammar and G. Falkman, "Conformal prediction for distribution-independent anomaly
        detection", 2010). From uint8 of shape (n, width * width) to float64 of shape (n,), 0-1.
        """
        typicality = np.empty(len(pixels))
        for place, (distance, label) in enumerate(zip(*self.distance(pixels), strict=True)):
            known = self._by_class[label]
            typicality[place] = 1 - np.searchsorted(known, distance) / len(known)
        return typicality

    @cached_property
    def _points(self) -> npt.NDArray[np.float32]:
        return _features(self.pixels)

    @cached_property
    def _by_class(self) -> list[npt.NDArray[np.float32]]:
        """The sorted distances for each class; of all digits where a class has none."""
        of = [self.distances[self.nearest == digit] for digit in range(CLASSES)]
        return [np.sort(one if len(one) else self.distances) for one in of]


def _features(pixels: Pixels) -> npt.NDArray[np.float32]:
    from sklearn.pipeline import make_pipeline

    from mnist_pipeline.digits.features.transformers import Deskewer, OrientedGradients

    width = width_of(pixels)
    gradients = make_pipeline(Deskewer(width), OrientedGradients(width=width)).fit(pixels[:1])
    return in_batches(gradients.transform, pixels)
