"""Which digits the report shows, and each as a small picture."""

import base64
import io
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.model.prediction import Predictions

IN_A_CELL = 30
WORST = 48
SAMPLES = 5


@dataclass(frozen=True)
class Shown:
    """A digit with its picture.

    Attributes
    ----------
    row_id, label : int
    prediction : int or None
        None for a training digit.
    confidence : float or None
        None where the model has no probabilities.
    picture : str
        A PNG as a data URL, ink on paper.
    """

    row_id: int
    label: int
    prediction: int | None
    confidence: float | None
    picture: str


def in_cells(test: Digits, predictions: Predictions) -> dict[str, list[Shown]]:
    """Return the digits of each cell of the confusion matrix, most confident first.

    Keys are the true and the predicted digit, as in `"4 9"`; at most `IN_A_CELL` each.
    """
    order = _most_confident_first(predictions)
    label, prediction = predictions.label[order], predictions.prediction[order]
    places = {
        f"{true} {predicted}": order[(label == true) & (prediction == predicted)][:IN_A_CELL]
        for true, predicted in np.ndindex(CLASSES, CLASSES)
    }
    # all at once: where rows are lazy, each of their groups is read once
    shown = iter(tested(test, predictions, np.concatenate(list(places.values()))))
    return {
        cell: list(itertools.islice(shown, len(some))) for cell, some in places.items() if len(some)
    }


def worst_mistakes(test: Digits, predictions: Predictions) -> list[Shown]:
    """Return what the model was surest of and wrong about, surest first."""
    return tested(test, predictions, mistakes(predictions)[:WORST])


def mistakes(predictions: Predictions) -> npt.NDArray[np.intp]:
    """Return the places of wrong predictions, surest first."""
    order = _most_confident_first(predictions)
    return np.compress(~predictions.right[order], order)


def tested(test: Digits, predictions: Predictions, places: npt.NDArray[np.integer]) -> list[Shown]:
    """Return the test digits at these places."""
    given = predictions.confidence
    images = test.pixels[places]
    return [
        Shown(
            int(predictions.row_id[place]),
            int(predictions.label[place]),
            int(predictions.prediction[place]),
            None if given is None else float(given[place]),
            picture(image),
        )
        for place, image in zip(places, images, strict=True)
    ]


def samples(train: Digits) -> list[Shown]:
    """Return the first training digit, which the tutorial shows, and the next of each class."""
    rest = [
        place
        for digit in range(CLASSES)
        for place in np.flatnonzero(train.labels == digit)[:SAMPLES]
        if place != 0
    ]
    return [
        Shown(
            int(train.row_id[place]),
            int(train.labels[place]),
            None,
            None,
            picture(train.pixels[place]),
        )
        for place in [0, *rest]
    ]


def picture(pixels: npt.NDArray[np.uint8]) -> str:
    """Return a digit, of shape (pixels,), as a PNG in a data URL."""
    from PIL import Image

    buffer, width = io.BytesIO(), width_of(pixels)
    Image.fromarray(255 - pixels.reshape(width, width)).save(buffer, "PNG")
    return data_url(buffer.getvalue())


def data_url(png: bytes) -> str:
    """Return a PNG as a URL that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _most_confident_first(predictions: Predictions) -> npt.NDArray[np.intp]:
    """Order by probability, or, where there is none, by how far the best score leads."""
    if predictions.confidence is not None:
        return np.argsort(-predictions.confidence, kind="stable")
    second, first = np.sort(predictions.scores, axis=1)[:, -2:].T
    return np.argsort(second - first, kind="stable")
