"""Normalizing: from an image with a digit somewhere in it to images as the source has them.

MNIST's own digits were bilevel scans; they were "size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio", grey levels came from the anti-aliasing of that, and they were
"centered in a 28x28 image by computing the center of mass of the pixels" (Y. LeCun, C. Cortes and
C. J. C. Burges, "The MNIST database of handwritten digits"). So is each candidate of a picture;
those that are the same digit under several thresholds are kept, with weights.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images import segments
from mnist_pipeline.digits.images.segments import Candidate
from mnist_pipeline.digits.model.typicality import Reference

MNIST = Shape()
_LEAST_SIDES = (4, 10)
"""With less MNIST's own images are not read right; a 1 cropped at its edges is as slender."""

_WORKING_SIDE = 160
"""Strokes are broadened at this many pixels a side: eight for each of MNIST's box."""

_THINNEST = 1.8

# typicality
_NO_DIGIT = 0.01
_ANOTHER_DIGIT = 0.05
_WHOLE_DIGIT = 0.1
"""Less is no digit; as much is a second digit beside the first; or makes what it holds its part."""

_PART = 1.3
"""A whole is so many times as long as its parts: with less it is the same at another threshold."""

_CUT = 0.01
"""What a candidate at the frame counts for: it may be from beside the paper, or cropped so."""

_AS_LONG = 0.45
_AS_DARK = 0.6
"""A second digit has such shares of the length and of the contrast of the first."""


@dataclass(frozen=True)
class Prepared:
    """The digit of an image as the source would have it, under several thresholds of ink.

    `pixels` (uint8 of shape (n, pixels), ink 0-255) begin with the most probable one; `weights`, of
    shape (n,), are how much each counts, 1 together. `typicality` is that of the first: the share
    of the known digits that are as far from the training digits or farther, 0-1.
    """

    pixels: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float64]
    typicality: float


def prepare(grey: npt.NDArray[np.float32], shape: Shape, reference: Reference) -> Prepared:
    """Find the digit of a picture and return it as the source would have it.

    `grey` is float32 of shape (height, width), 0-1; `shape` that of the images that the model was
    fitted on, and `reference` of the same model. Raises PictureError where the picture is too
    small, shows nothing that looks like a digit, or more than one digit.
    """
    from PIL import Image

    as_it_is = grey.shape == (shape.width, shape.width) and shape.box == shape.width
    if not shape.searched:
        as_it_is, square = True, (shape.width, shape.width)
        grey = np.asarray(Image.fromarray(grey).resize(square, Image.Resampling.BOX))
    if not as_it_is and (np.sort(grey.shape) < _LEAST_SIDES).any():
        raise PictureError("has too few pixels a side to show a digit")
    if as_it_is:
        pixels = _whole(grey)[np.newaxis]
        typicality, weights = reference.compare(pixels), np.ones(1)
    else:
        found = segments.candidates(grey)
        pixels = np.array([_as_source(one.ink, shape) for one in found])
        typicality = reference.compare(pixels)
        weights = _weights(found, typicality)
    order = np.argsort(-weights, kind="stable")[: max(1, np.count_nonzero(weights))]
    if (best := float(typicality[order[0]])) < _NO_DIGIT:
        raise PictureError(
            f"shows nothing that looks like a digit the model knows: {segments.WANTED}"
        )
    return Prepared(pixels[order], weights[order] / weights.sum(), best)


def _whole(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return an image as the source has them, whose digit goes up to the frame, uint8 (pixels,)."""
    paper = np.median([*grey[0], *grey[-1], *grey[:, 0], *grey[:, -1]])
    ink = np.abs(grey - paper)
    if not ink.any():
        raise PictureError(segments.EMPTY)
    return np.asarray(np.round(255 * ink / ink.max()), np.uint8).ravel()


def _weights(
    found: list[Candidate], typicality: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how much each candidate counts for the digit, of shape (n,); those beside it, 0.

    Typical, long and dark ones count more. Parts of a digit, which can look like a 1, do not count.
    Raises PictureError where several look like digits.
    """
    length = np.array([one.length for one in found])
    contrast = np.array([one.contrast for one in found])
    cut = np.array([one.is_cut for one in found])
    weights = typicality * length * contrast * np.where(cut, _CUT, 1)
    wholes = np.flatnonzero(typicality >= _WHOLE_DIGIT)
    for part, one in enumerate(found):
        longer = wholes[length[wholes] > _PART * length[part]]
        if any(found[whole].holds(one) for whole in longer):
            weights[part] = 0
    best = int(weights.argmax())
    beside = np.array([not one.overlaps(found[best]) for one in found])
    others = (
        beside
        & (weights > 0)
        & (typicality >= _ANOTHER_DIGIT)
        & (length >= _AS_LONG * length[best])
        & (contrast >= _AS_DARK * contrast[best])
        & (cut <= cut[best])
    )
    digits = [found[best]]
    for place in np.flatnonzero(others):
        if not any(found[place].overlaps(other) for other in digits):
            digits.append(found[place])
    if len(digits) > 1:
        raise PictureError(f"shows {len(digits)} things that could be digits: {segments.WANTED}")
    return np.where(beside, 0, weights)


def _as_source(ink: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.uint8]:
    """Return ink, float32 of shape (height, width), as the source has digits, uint8 (pixels,)."""
    from PIL import Image

    if (scale := _WORKING_SIDE / max(ink.shape)) < 1:
        size = [max(1, round(scale * side)) for side in ink.shape[::-1]]
        ink = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX))
        if ink.max() <= 0.5:
            ink = ink / ink.max()
    return _scaled(_thick_enough(ink), shape)


def _thick_enough(ink: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Broaden strokes that are thinner for their digit than those of MNIST."""
    from scipy import ndimage

    strokes = ink > 0.5
    # a pixel of MNIST, whatever the shape: pens do not grow with the pixels
    pixel = (
        max(part.stop - part.start for part in ndimage.find_objects(strokes.astype(int))[0])
        / MNIST.box
    )
    # across a stroke the mean distance to its edge is a quarter of its width
    width = 4 * float(ndimage.distance_transform_edt(strokes)[strokes].mean())
    if width >= _THINNEST * pixel:
        return ink
    reach = (_THINNEST * pixel - width) / 2
    far = ndimage.distance_transform_edt(~strokes)
    return np.asarray(np.maximum(ink, np.clip(reach + 1 - far, 0, 1)), np.float32)


def _scaled(ink: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.uint8]:
    """Scale the ink into the box, and place that in the image by its centre of mass."""
    from PIL import Image

    rows, columns = (np.flatnonzero((ink > 0.5).any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    sides = box[2] - box[0], box[3] - box[1]
    size = [max(1, round(shape.box / max(sides) * side)) for side in sides]
    small = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX, box))
    mass = small.sum()
    digit = np.zeros((shape.width, shape.width), np.float32)
    corner = []
    for axis, side in enumerate(small.shape):
        centre = float(small.sum(axis=1 - axis) @ np.arange(side)) / mass
        corner.append(int(np.clip(round(shape.width / 2 - centre), 0, shape.width - side)))
    digit[corner[0] : corner[0] + small.shape[0], corner[1] : corner[1] + small.shape[1]] = small
    return np.round(255 * digit).astype(np.uint8).reshape(shape.pixels)
