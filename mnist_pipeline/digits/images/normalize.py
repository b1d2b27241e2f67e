"""Normalizing: from a picture with a digit somewhere in it to 28 x 28 pixels as MNIST has them.

MNIST's own digits were bilevel scans; they were "size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio", grey levels came from the anti-aliasing of that, and they were
"centered in a 28x28 image by computing the center of mass of the pixels" (Y. LeCun, C. Cortes and
C. J. C. Burges, "The MNIST database of handwritten digits"). Which pixels are ink is decided here.
"""

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.errors import PictureError

MNIST = Shape()
_LEAST_SIDE = 8
_LEAST_CONTRAST = 0.06
_LEAST_SIGNAL = 6.0
"""How many times farther from the paper ink must be than half of the paper's pixels are."""

_LEAST_ODDS = 1.5
_LEAST_ODDS_FLAT = 4.0
"""How many times farther from the paper ink must be than anything on the other side of it; more
where the paper is taken for flat, since uneven light looks like ink then."""

_EXTREME = 0.0004
"""Share of the pixels that are ink for sure, if there is a digit."""

_LEAST_HEIGHT = 0.03
# shares of the height of the tallest stroke
_GAP = 0.12
"""Strokes with less between them are always one digit."""

_REACH = 0.3
"""Strokes that are not a digit of their own belong to a digit within this distance."""

_ANOTHER = 0.45
"""What is this high may be a digit of its own."""

_SPECK = 0.02
"""What has less ink than this share of the digit's is not one of its strokes."""

_WIDEST = 2.5
_THINNEST = 1.8


def prepare(grey: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.uint8]:
    """Find the digit of a picture and return it as the source would have it.

    The paper is a smooth surface through most of the pixels, so light may be uneven. Ink is on that
    side of it, darker or lighter, where pixels are farthest away; where both sides are alike, there
    is only noise, and no digit. Parts that are near one another are one digit.

    Parameters
    ----------
    grey : float32 array of shape (height, width), 0-1
    shape : Shape
        Of the images that the model was fitted on.

    Returns
    -------
    uint8 array of shape (shape.pixels,), ink 0-255

    Raises
    ------
    PictureError
        The picture is too small, shows nothing that stands out, or more than one digit.
    """
    if min(grey.shape) < _LEAST_SIDE:
        raise PictureError("has too few pixels a side to show a digit")
    if grey.shape == (shape.width, shape.width) and shape.box == shape.width:
        # an image as the source has them: its digit goes up to the frame, paper is put around it
        edges = np.concatenate([grey[[0, -1]].ravel(), grey[:, [0, -1]].ravel()])
        own = _ink(np.pad(grey, 1, constant_values=np.median(edges)))[1:-1, 1:-1]
        return np.round(255 * own).astype(np.uint8).ravel()
    ink = _ink(grey)
    return _scaled(_thick_enough(ink * _digit(ink)), shape)


def _ink(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how much ink each pixel has, from 0 (paper) to 1."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(grey, max(grey.shape) / 500)
    edges = np.concatenate([smooth[[0, -1]].ravel(), smooth[:, [0, -1]].ravel()])
    # a digit that fills the picture bends a curved paper: then it may be as flat as the edges
    for paper, odds in ((_paper(smooth), _LEAST_ODDS), (np.median(edges), _LEAST_ODDS_FLAT)):
        lighter = smooth - paper
        low, high = np.quantile(lighter, [_EXTREME, 1 - _EXTREME])
        ink, most, beyond = (-lighter, -low, high) if -low > high else (lighter, high, -low)
        # of the other side, which has no ink
        noise = float(np.median(-ink[ink <= 0]))
        if most >= max(_LEAST_CONTRAST, _LEAST_SIGNAL * noise, odds * beyond):
            full = float(np.median(ink[ink > most / 2]))
            return np.asarray(np.clip(ink / full, 0, 1), np.float32)
    raise PictureError("shows no digit: nothing in it stands out as ink does from paper")


def _paper(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Fit a quadratic surface to the pixels, by least absolute deviations: ink hardly moves it."""
    rows, columns = (np.linspace(-1, 1, size, dtype=np.float32) for size in grey.shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, max(grey.shape) // 100)
    some = terms[::step, ::step].reshape(-1, terms.shape[-1]).astype(np.float64)
    levels = grey[::step, ::step].ravel().astype(np.float64)
    weight = np.ones_like(levels)
    for _ in range(30):  # iteratively reweighted least squares
        weighted = some * weight[:, np.newaxis]
        surface = np.linalg.lstsq(weighted.T @ some, weighted.T @ levels, rcond=None)[0]
        weight = 1 / np.maximum(np.abs(levels - some @ surface), 1e-3)
    paper: npt.NDArray[np.float32] = terms @ surface.astype(np.float32)
    return paper


def _digit(ink: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return where the one digit is, with its faint edges.

    Raises
    ------
    PictureError
        There are several, or what there is is far wider than high.
    """
    from scipy import ndimage

    everywhere = np.ones((3, 3), bool)
    strokes = _within(ink > 0.5)
    parts, _ = ndimage.label(strokes, everywhere)
    tallest = max(part[0].stop - part[0].start for part in ndimage.find_objects(parts))
    if tallest < _LEAST_HEIGHT * max(ink.shape):
        raise PictureError("shows no digit: what stands out in it is too small for one")
    near = max(1, round(_GAP * tallest / 2))
    grown = ndimage.distance_transform_edt(~strokes) <= near
    groups, _ = ndimage.label(grown, everywhere)
    where = ndimage.find_objects(np.where(strokes, groups, 0))
    heights = np.array([part[0].stop - part[0].start for part in where])
    main = int(heights.argmax())
    others = int((heights >= _ANOTHER * heights[main]).sum()) - 1
    if others:
        raise PictureError(
            f"shows {others + 1} things that could be digits: give a picture of each"
        )
    height, width = (part.stop - part.start for part in where[main])
    if width > _WIDEST * height:
        raise PictureError("shows something far wider than high: several digits, or none")
    # a stroke apart, such as the bar of a 5, but no speck
    apart = ndimage.distance_transform_edt(groups != main + 1)
    every = np.arange(1, len(where) + 1)
    sizes = ndimage.sum_labels(strokes, groups, every)
    near_enough = ndimage.minimum(apart, groups, every) <= _REACH * tallest
    its_own = every[near_enough & (sizes >= _SPECK * sizes[main])]
    return np.isin(groups, its_own)


def _within(strokes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Leave out what comes in from beside the paper: shadows, edges of a table, ruled lines.

    Such a part has a corner of the frame, or more than half of a side, or goes from left to right.
    A digit that fills the frame touches all four sides.

    Raises
    ------
    PictureError
        Nothing is left.
    """
    from scipy import ndimage

    parts, count = ndimage.label(strokes, np.ones((3, 3), bool))
    sides = [parts[0], parts[-1], parts[:, 0], parts[:, -1]]
    shares = np.stack([np.bincount(side, minlength=count + 1) / len(side) for side in sides])
    corners = np.isin(np.arange(count + 1), parts[[0, 0, -1, -1], [0, -1, 0, -1]])
    across = (shares[2:] > 0).all(axis=0)
    foreign = (corners | (shares > 0.5).any(axis=0) | across) & ~(shares > 0).all(axis=0)
    left: npt.NDArray[np.bool_] = strokes & ~foreign[parts]
    if not left.any():
        raise PictureError("shows no digit: what stands out in it comes in from beside it")
    return left


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
