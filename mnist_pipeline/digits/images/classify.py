"""Reading: what a model says of the digit in somebody's picture, and of what it saw there."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.images import files, normalize
from mnist_pipeline.digits.model import calibration
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.sources import registry


@dataclass(frozen=True)
class Reading:
    """The answer about one picture.

    Attributes
    ----------
    seen : uint8 array of shape (pixels,)
        The picture as it was prepared for the model, ink 0-255.
    probabilities : float64 array of shape (10,)
    """

    seen: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float64]

    @property
    def digit(self) -> int:
        """The most probable digit."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Its probability, 0-1."""
        return float(self.probabilities.max())


def read_digit(model: TrainedModel, picture: bytes) -> Reading:
    """Read the one digit in a picture, the bytes of an image file.

    Raises
    ------
    PictureError
        The bytes are no picture, or it shows no single digit.
    FormatError
        The model was fitted on digits of a source that is not registered any more.
    ValueError
        The model has no probabilities: nothing was held out of its fit.
    """
    if model.validated is None:
        raise ValueError("a model without probabilities answers no pictures")
    shape = registry.by_name(model.origin.source).shape
    seen = normalize.prepare(files.grey(picture), shape)
    scores = model.scores(seen[np.newaxis])
    return Reading(seen, calibration.probabilities(scores, model.validated.temperature)[0])
