"""The model's answer for an image of one digit, and the digits of a set nearest to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.validation import Validated
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.images import files, normalize, segments
from mnist_pipeline.digits.images.normalize import Prepared
from mnist_pipeline.digits.model.pipeline import TrainedModel, probabilities
from mnist_pipeline.digits.model.typicality import Reference
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

    `seen`, uint8 of shape (pixels,), is the image as it was prepared for the model, ink 0-255;
    `probabilities`, float64 of shape (10,), their mean over several thresholds of ink; `typicality`
    the share of the digits known to the model that are as unlike the others or more, 0-1. Class
    names are those of the source that the model was fitted on.
    """

    seen: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float64]
    typicality: float
    class_names: tuple[str, ...]

    @property
    def digit(self) -> int:
        """The most probable digit."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Its probability, 0-1."""
        return float(self.probabilities.max())

    @property
    def document(self) -> dict[str, Any]:
        """The answer as `predict --json` and the API give it."""
        return {
            "digit": self.digit,
            "name": self.class_names[self.digit],
            "confidence": self.confidence,
            "typicality": self.typicality,
            "scores": {str(digit): float(p) for digit, p in enumerate(self.probabilities)},
        }


def read_digit(model: TrainedModel, image: bytes) -> Reading:
    """Classify the one digit in an image file.

    Raises PictureError where the bytes are not an image, or it does not clearly show a single
    digit; FormatError where the model's source is not registered any more; ValueError where the
    model has no probabilities: nothing was held out of its fit.
    """
    source = registry.by_name(model.origin.source)
    try:
        reading = _reading(
            model, normalize.prepare(files.grey(image), source.shape, _calibrated(model)[1])
        )
        if reading.confidence < _LEAST_CONFIDENCE:
            second, first = (source.class_names[p] for p in reading.probabilities.argsort()[-2:])
            raise PictureError(f"is not clear: a {first} or a {second}: {segments.WANTED}")
    except PictureError as error:
        raise PictureError(str(error).replace("digit", source.noun)) from None
    return reading


def read_pixels(model: TrainedModel, rows: object) -> Reading:
    """Classify an image that is prepared as the model's digits are, whatever it shows.

    `rows` are lists of ink, 0-255, from the top. Raises as `read_digit`; PictureError where they
    are of another size, or anything else.
    """
    width = registry.by_name(model.origin.source).shape.width
    try:
        pixels = np.array(rows)
    except ValueError:  # lists of several lengths
        pixels = np.empty(0)
    is_whole = np.issubdtype(pixels.dtype, np.integer) and pixels.shape == (width, width)
    if not is_whole or pixels.min() < 0 or pixels.max() > 255:
        raise PictureError(f"is not {width} rows of {width} whole numbers from 0 to 255")
    image = pixels.astype(np.uint8).reshape(1, -1)
    typicality = float(_calibrated(model)[1].compare(image)[0])
    return _reading(model, Prepared(image, np.ones(1), typicality))


def _reading(model: TrainedModel, seen: Prepared) -> Reading:
    found = probabilities(model.scores(seen.pixels), _calibrated(model)[0].temperature)
    names = registry.by_name(model.origin.source).class_names
    return Reading(seen.pixels[0], seen.weights @ found, seen.typicality, names)


def _calibrated(model: TrainedModel) -> tuple[Validated, Reference]:
    if model.validated is None or model.reference is None:
        raise ValueError("a model without probabilities cannot classify images")
    return model.validated, model.reference


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
