"""Normalizing: from an image with a digit somewhere in it to an image as the source has them.

MNIST's own digits were bilevel scans; they were "size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio", grey levels came from the anti-aliasing of that, and they were
"centered in a 28x28 image by computing the center of mass of the pixels" (Y. LeCun, C. Cortes and
C. J. C. Burges, "The MNIST database of handwritten digits"). So is each candidate of a picture; the
one that is most like the training digits is the answer.
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
_LEAST_SIDE = 8
_WORKING_SIDE = 160
"""Strokes are broadened at this many pixels a side: eight for each of MNIST's box."""

_THINNEST = 1.8

_MOST_EXCESS = 1.2
"""What is farther from the training digits than this multiple of any known digit is refused."""

_TYPICAL = 0.1
"""Least typicality of a second digit in the picture: with less it is a part or a stain."""

_DOUBT = 0.4
"""What a candidate's typicality counts for each reason to doubt it."""

_ENOUGH = 0.2
"""More typicality counts no more: which digit is meant is not which is drawn most usually."""

_SIZE = 1.6
"""Power of the length that multiplies the typicality."""

_ANOTHER = 0.45
"""A second digit is at least so high, as a share of the first."""

_LEAST_CONTRAST = 0.35
"""A digit has at least so much of the contrast of what else looks like one."""

NOTHING = "shows no digit: nothing that is large enough stands out as ink does from paper"
UNLIKE = (
    "shows no digit that is like those the model knows: crop it to one digit, upright, with paper "
    "around it"
)


@dataclass(frozen=True)
class Prepared:
    """An image as the source would have it.

    Attributes
    ----------
    pixels : uint8 array of shape (pixels,), ink 0-255
    typicality : float
        Share of the known digits that are as far from the training digits or farther, 0-1.
    """

    pixels: npt.NDArray[np.uint8]
    typicality: float


def prepare(grey: npt.NDArray[np.float32], shape: Shape, reference: Reference) -> Prepared:
    """Find the digit of a picture and return it as the source would have it.

    Parameters
    ----------
    grey : float32 array of shape (height, width), 0-1
    shape : Shape
        Of the images that the model was fitted on.
    reference : Reference
        Of the same model.

    Raises
    ------
    PictureError
        The picture is too small, shows nothing that looks like a digit, or more than one digit.
    """
    if min(grey.shape) < _LEAST_SIDE:
        raise PictureError("has too few pixels a side to show a digit")
    if grey.shape == (shape.width, shape.width) and shape.box == shape.width:
        found = [_whole(grey)]
        prepared = np.array([np.round(255 * found[0].ink).astype(np.uint8).ravel()])
    else:
        found = segments.candidates(grey)
        if not found:
            raise PictureError(NOTHING)
        prepared = np.array([_as_source(one.ink, shape) for one in found])
    typicality, excess = reference.compare(prepared)
    place = _best(found, typicality, excess)
    return Prepared(prepared[place], float(typicality[place]))


def _whole(grey: npt.NDArray[np.float32]) -> Candidate:
    """Return an image as the source has them: its digit goes up to the frame."""
    edges = np.concatenate([grey[[0, -1]].ravel(), grey[:, [0, -1]].ravel()])
    # paper is put around it
    padded = np.pad(grey, 1, constant_values=np.median(edges))
    everywhere = np.ones(padded.shape, bool)
    for _, contrast in segments.contrasts(padded, everywhere):
        full = segments.full_ink(contrast, everywhere)
        ink = np.clip(contrast / full, 0, 1)[1:-1, 1:-1].astype(np.float32)
        return Candidate(ink, 0, 0, full, 0, is_line=False, is_cut=False)
    raise PictureError(NOTHING)


def _best(
    found: list[Candidate], typicality: npt.NDArray[np.float64], excess: npt.NDArray[np.float64]
) -> int:
    """Return the place of the candidate that is the digit.

    It is typical, and large: parts of a digit can look like a 1. What is on the flat paper of a
    hypothesis, goes up to the frame or is a line counts less.

    Raises
    ------
    PictureError
        None looks like a digit, or several do.
    """
    able = [
        place
        for place, one in enumerate(found)
        if excess[place] <= _MOST_EXCESS and not (one.is_line and one.is_cut)
    ]
    typical = [p for p in able if typicality[p] >= _TYPICAL and found[p].doubts < 1]
    contrast = max((found[place].contrast for place in typical), default=0)
    able = [place for place in able if found[place].contrast >= _LEAST_CONTRAST * contrast]
    if not able:
        raise PictureError(UNLIKE)

    def score(place: int) -> float:
        beyond = 0.01 / (1 + 20 * max(0, excess[place] - 1))
        one = found[place]
        worth = min(max(typicality[place], beyond), _ENOUGH) * (1 + 0.1 * typicality[place])
        return float(worth * one.length**_SIZE * _DOUBT**one.doubts)

    best = max(able, key=score)
    digits = [best]
    for place in sorted(able, key=score, reverse=True):
        one = found[place]
        if (
            typicality[place] >= _TYPICAL
            and one.length >= _ANOTHER * found[best].length
            and one.doubts < found[best].doubts + 1
            and not any(one.overlaps(found[other]) for other in digits)
        ):
            digits.append(place)
    if len(digits) > 1:
        raise PictureError(
            f"shows {len(digits)} things that could be digits: crop it to one of them, with paper "
            "around it"
        )
    return best


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
    scale = shape.box / max(box[2] - box[0], box[3] - box[1])
    size = (
        max(1, round(scale * (box[2] - box[0]))),
        max(1, round(scale * (box[3] - box[1]))),
    )
    small = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX, box))
    mass = small.sum()
    digit = np.zeros((shape.width, shape.width), np.float32)
    corner = []
    for axis, side in enumerate(small.shape):
        centre = float(small.sum(axis=1 - axis) @ np.arange(side)) / mass
        corner.append(int(np.clip(round(shape.width / 2 - centre), 0, shape.width - side)))
    digit[corner[0] : corner[0] + small.shape[0], corner[1] : corner[1] + small.shape[1]] = small
    return np.round(255 * digit).astype(np.uint8).reshape(shape.pixels)
