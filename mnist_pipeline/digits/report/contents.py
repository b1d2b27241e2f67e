"""What the report shows of digits: which ones, as small pictures, and maps of each class."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import slices
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions

IN_A_CELL = 30
WORST = 48
SAMPLES = 10


@dataclass(frozen=True)
class Shown:
    """A digit with its picture, a PNG as a data URL, ink on paper.

    A training digit has no prediction and no confidence. A model without probabilities gives no
    confidence.
    """

    row_id: int
    label: int
    prediction: int | None
    confidence: float | None
    picture: str


def shown(
    digits: Digits, places: npt.NDArray[np.integer], predictions: Predictions | None = None
) -> list[Shown]:
    """Return the digits at these places, with their predictions if there are any."""
    given = predictions.confidence if predictions else None
    return [
        Shown(
            int(digits.row_id[place]),
            int(digits.labels[place]),
            int(predictions.prediction[place]) if predictions else None,
            None if given is None else float(given[place]),
            picture(digits.pixels[place]),
        )
        for place in places
    ]


def plotted_models(decided: Iterable[tuple[float | None, str]]) -> list[tuple[float, bool]]:
    """Return the accuracies of past models, and whether they were promoted, as a plot shows them.

    `decided` has accuracy and outcome of each model, oldest first. Models without an accuracy are
    left out; of fewer than two there is no plot.
    """
    # after either the model that was decided on is the champion
    accepted = {"promoted", "stays"}
    known = [(share, outcome in accepted) for share, outcome in decided if share is not None]
    return known if len(known) > 1 else []


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
    return {cell: shown(test, some, predictions) for cell, some in places.items() if len(some)}


def mistakes(predictions: Predictions) -> npt.NDArray[np.intp]:
    """Return the places of wrong predictions, most confident first."""
    order = _most_confident_first(predictions)
    return order[~predictions.right[order]]


def samples(train: Digits) -> list[list[Shown]]:
    """Return the first training digits of each class."""
    by_class = [np.flatnonzero(train.labels == digit)[:SAMPLES] for digit in range(CLASSES)]
    return [shown(train, places) for places in by_class]


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
    """Order by probability, or, without probabilities, by how far the best score leads."""
    if predictions.confidence is not None:
        return np.argsort(-predictions.confidence, kind="stable")
    second, first = np.sort(predictions.scores, axis=1)[:, -2:].T
    return np.argsort(second - first, kind="stable")


def class_maps(model: TrainedModel, test: Digits) -> npt.NDArray[np.floating]:
    """Return where ink speaks for each class, shape (10, pixels).

    The weights of a classifier of pixels; of one of features, its sensitivity to occlusion.
    """
    weights = pixel_weights(model)
    return occlusion(model, test) if weights is None else weights


def pixel_weights(model: TrainedModel) -> npt.NDArray[np.floating] | None:
    """Return the weights of each class, shape (10, pixels), if the features are pixels."""
    if model.params["features"] not in {"raw", "scaled"}:
        return None
    weights: npt.NDArray[np.floating] = model.pipeline[-1].coef_
    return weights


def patch(width: int) -> int:
    """Return the pixels a side of what `occlusion` covers: a quarter of the image's."""
    return max(1, width // 4)


def occlusion(model: TrainedModel, digits: Digits, per_class: int = 10) -> npt.NDArray[np.float64]:
    """Blank each patch of some digits and measure how far the score of their own class falls.

    Returned is a float64 array of shape (10, pixels): the mean fall of the score of the first
    `per_class` digits of each class where a pixel was covered; below 0 where it rose, 0 for a class
    that is not among the digits. Patches, which overlap by half and more, are made paper (M. D.
    Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, sec.
    4.2).
    """
    # the patches that start at each row are those that start at each column, crossed
    width, pixels = width_of(digits.pixels), digits.pixels.shape[1]
    side = patch(width)
    starts = np.arange(0, width - side + 1, max(1, side // 2))[:, np.newaxis]
    stripes = (np.arange(width) >= starts) & (np.arange(width) < starts + side)
    masks = (stripes[:, np.newaxis, :, np.newaxis] & stripes[:, np.newaxis]).reshape(-1, pixels)
    covered = np.maximum(masks.sum(axis=0), 1)
    maps = np.zeros((CLASSES, pixels))
    for digit in range(CLASSES):
        images = digits.pixels[np.flatnonzero(digits.labels == digit)[:per_class]]
        if len(images) == 0:
            continue
        hidden = np.where(masks, 0, images[:, np.newaxis]).reshape(-1, pixels)
        before = model.scores(images)[:, digit, np.newaxis]
        after = model.scores(hidden)[:, digit].reshape(len(images), len(masks))
        maps[digit] = (before - after).mean(axis=0) @ masks / covered
    return maps


def mean_images(digits: Digits) -> npt.NDArray[np.float64]:
    """Return the mean image of each class, shape (10, pixels); 0 for a class without digits."""
    sums = np.zeros((CLASSES, digits.pixels.shape[1]))
    for rows in slices(len(digits)):
        chunk, labels = digits.pixels[rows], digits.labels[rows]
        for digit in range(CLASSES):
            sums[digit] += chunk[labels == digit].sum(axis=0, dtype=np.int64)
    counts = np.bincount(digits.labels, minlength=CLASSES)
    return sums / np.maximum(counts, 1)[:, np.newaxis]
