"""The model's answer for an image file of one digit, and the digits of a set nearest to it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.images import files, normalize, segments
from mnist_pipeline.digits.model.pipeline import TrainedModel, probabilities
from mnist_pipeline.digits.sources import registry

_LEAST_TYPICALITY = 0.05
"""With less an answer comes with a warning: so it does for one in twenty of MNIST's own digits."""

_LEAST_CONFIDENCE = 0.65
"""With less no digit is answered. Of the pages of `benchmarks.own_digits` that it was chosen on, 2%
are read wrong with it."""


def warning(typicality: float) -> str | None:
    """Return that an image is hardly like a digit, so that its confidence means little; or None."""
    if typicality < _LEAST_TYPICALITY:
        return "unlike the training digits: is it one upright digit?"
    return None


@dataclass(frozen=True)
class Reading:
    """The answer for one image.

    Attributes
    ----------
    seen : uint8 array of shape (pixels,)
        The image as it was prepared for the model, ink 0-255.
    probabilities : float64 array of shape (10,)
        Their mean over several thresholds of ink.
    typicality : float
        Share of the digits known to the model that are as unlike the others or more, 0-1.
    """

    seen: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float64]
    typicality: float

    @property
    def digit(self) -> int:
        """The most probable digit."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Its probability, 0-1."""
        return float(self.probabilities.max())


def read_digit(model: TrainedModel, image: bytes) -> Reading:
    """Classify the one digit in an image file.

    Raises
    ------
    PictureError
        The bytes are not an image, or it does not clearly show a single digit.
    FormatError
        The model was fitted on digits of a source that is not registered any more.
    ValueError
        The model has no probabilities: nothing was held out of its fit.
    """
    if model.validated is None or model.reference is None:
        raise ValueError("a model without probabilities cannot classify images")
    shape = registry.by_name(model.origin.source).shape
    seen = normalize.prepare(files.grey(image), shape, model.reference)
    found = probabilities(model.scores(seen.pixels), model.validated.temperature)
    reading = Reading(seen.pixels[0], seen.weights @ found, seen.typicality)
    if reading.confidence < _LEAST_CONFIDENCE:
        second = int(reading.probabilities.argsort()[-2])
        raise PictureError(f"is not clear: a {reading.digit} or a {second}: {segments.CROP}")
    return reading


def nearest(digits: Digits, pixels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.intp]:
    """Return the places of the `count` digits nearest to an image, nearest first.

    Distance is the Euclidean one between pixels. Of images of another size none is near.
    """
    if digits.pixels.shape[1] != len(pixels):
        return np.empty(0, np.intp)
    ink = pixels.astype(np.float32)

    def distances(part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = np.linalg.norm(part - ink, axis=1, keepdims=True)
        return found

    return np.argsort(in_batches(distances, digits.pixels)[:, 0], kind="stable")[:count]
