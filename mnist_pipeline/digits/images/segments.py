"""Candidates: what in a picture could be its digit, as ink on paper.

They are extremal regions: what is connected in the ink above a threshold, for several thresholds,
with and without the long lines. Nothing is decided here: `normalize` compares them with the
training digits (L. Neumann and J. Matas, "Real-time scene text localization and recognition", CVPR
2012, sec. 3, find letters so).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.errors import PictureError

_SIDE = 400
"""Pictures are searched with this number of pixels squared, whatever their shape and size."""

_LEAST_CONTRAST = 0.06
_LEAST_SIGNAL = 100
"""How far ink is from paper, in grey levels 0-1, and in multiples of the finest quarter of the
texture that is left when the picture is smoothed."""

_LEVELS = (0.35, 0.5, 0.7)
"""Thresholds, as shares of the contrast of full ink."""

# shares of the mean side
_BROADEST = 0.4
"""Strokes and their shadows are narrower; sheets and tables are broader."""

_GAPS = (0.0, 0.02, 0.08)
"""Strokes so far from one another may belong together."""

_LEAST_LENGTH = 0.04
_THICKEST_LINE = 0.03

_LEAST_LINE = 0.5
"""A line has ink along this share of its way through the picture."""

_SLENDEREST = 14
"""How many times as long as broad a digit is at most."""

_EVERY = 4
"""Of so many pixels a side one is looked at for the paper around a region."""

_MOST = 20
"""So many regions of a threshold, the longest ones, are compared with the training digits."""

_FILLED = 2 / 3
"""Only one in a thousand of MNIST's digits other than 1 fills so much of its bounding box."""

WANTED = "give a picture of one upright digit, with paper around it"
EMPTY = f"shows no digit: nothing stands out as ink does from paper: {WANTED}"
FOREIGN = (
    "shows no digit, only lines, specks, areas or what comes in from beside the paper: " + WANTED
)

Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """Strokes that could be the digit.

    `ink`, float32 of shape (height, width), 0 (paper) to 1, is cropped to the strokes with, where
    the picture has it, some paper around them; `corner` are row and column of its first pixel in
    the picture, `scale` its pixels for one of the picture. `contrast` is how far the ink is from
    the paper, in grey levels 0-1.
    """

    ink: Grey
    corner: npt.NDArray[np.float64]
    scale: float
    contrast: float

    @property
    def is_cut(self) -> bool:
        """Whether it goes up to the frame of the picture."""
        edges = self.ink[[0, -1]].ravel(), self.ink[:, [0, -1]].ravel()
        return any((edge > 0.5).any() for edge in edges)

    @property
    def length(self) -> float:
        """Its longer side in pixels of the picture."""
        return float(max(self.ink.shape) / self.scale)

    def holds(self, other: "Candidate") -> bool:
        """Return whether the darkest pixel of another one is ink of this one."""
        place = np.unravel_index(other.ink.argmax(), other.ink.shape)
        darkest = other.corner + np.array(place) / other.scale
        row, column = np.round((darkest - self.corner) * self.scale).astype(int)
        height, width = self.ink.shape
        inside = 0 <= row < height and 0 <= column < width
        return bool(inside and self.ink[row, column] > 0.5)

    def overlaps(self, other: "Candidate") -> bool:
        """Return whether the bounding boxes have pixels in common."""
        ends, others = (one.corner + np.array(one.ink.shape) / one.scale for one in (self, other))
        return bool((self.corner < others).all() and (other.corner < ends).all())


@dataclass(frozen=True)
class _Ink:
    """The ink of a part of the picture: brightness, contrast with the paper, that of full ink."""

    bright: Grey
    contrast: Grey
    full: float
    corner: tuple[int, ...]
    scale: float
    on_sheet: bool


def candidates(grey: Grey) -> list[Candidate]:
    """Return what could be the digit of a picture, array of shape (height, width), 0-1.

    Raises PictureError where there is no ink, or nothing in it can be a digit.
    """
    from PIL import Image

    if (scale := _SIDE / grey.size**0.5) > 1:
        size = [round(scale * side) for side in grey.shape[::-1]]
        grey = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
    inks = [ink for view in _views(grey) for ink in _inks(grey, view)]
    if not inks:
        raise PictureError(EMPTY)
    found = {(one.ink.tobytes(), *one.corner): one for ink in inks for one in _candidates(ink)}
    if not found:
        raise PictureError(FOREIGN)
    return list(found.values())


def _views(grey: Grey) -> Iterator[tuple[slice, ...]]:
    """Yield the whole picture, and the box of the largest bright part of it: a sheet of paper."""
    from scipy import ndimage

    yield slice(0, grey.shape[0]), slice(0, grey.shape[1])
    step = max(1, max(grey.shape) // 100)
    # without its strokes
    paper = ndimage.grey_closing(grey[::step, ::step], (9, 9))
    low, high = np.quantile(paper, [0.02, 0.98])
    parts, _ = ndimage.label(paper > (low + high) / 2)
    if high - low >= _LEAST_CONTRAST and parts.any():
        box = ndimage.find_objects(parts)[np.bincount(parts.ravel())[1:].argmax()]
        if parts[box].size < 0.95 * parts.size:
            # without what is beside it, or most of that if it is turned
            edge = [step * (side.stop - side.start) // 20 for side in box]
            yield tuple(
                slice(step * side.start + less, step * side.stop - less)
                for side, less in zip(box, edge, strict=True)
            )


def _inks(grey: Grey, view: tuple[slice, ...]) -> Iterator[_Ink]:
    """Yield the dark ink and the light ink of a part of the picture, where there is any.

    Paper is what a closing with a broad square leaves, so that uneven light, and the edges of
    sheets and folds, are paper (the black top-hat: J. Serra, "Image analysis and mathematical
    morphology", 1982, ch. XII).
    """
    from PIL import Image
    from scipy import ndimage

    part = grey[view]
    scale = min(1.0, _SIDE / part.size**0.5)
    size = [max(1, round(scale * side)) for side in part.shape[::-1]]
    small = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BOX))
    smooth = ndimage.gaussian_filter(small, 1)
    texture = np.quantile(np.abs(smooth - ndimage.gaussian_filter(smooth, 2)), 0.25)
    broad = max(3, round(_BROADEST * small.size**0.5))
    corner = tuple(side.start for side in view)
    for bright in (smooth, 1 - smooth):
        contrast = ndimage.grey_closing(bright, (broad, broad)) - bright
        full = _full_ink(contrast)
        if full >= max(_LEAST_CONTRAST, _LEAST_SIGNAL * texture):
            yield _Ink(bright, contrast, full, corner, scale, part.size < grey.size)


def _full_ink(contrast: Grey) -> float:
    """Return how far full ink is from the paper: the median of what is more than half of most."""
    most = np.quantile(contrast, 0.9996)
    return float(np.median(contrast[contrast > most / 2])) if most > 0 else 0.0


def _candidates(ink: _Ink) -> Iterator[Candidate]:
    """Yield the regions of ink that have paper around them."""
    side = ink.bright.size**0.5
    few = ink.bright[::_EVERY, ::_EVERY]
    # a digit cropped at its edges has paper beyond the frame, which shows between its strokes
    frame = [*few[0], *few[-1], *few[:, 0], *few[:, -1]]
    is_mixed = np.ptp(np.quantile(frame, [0.05, 0.95])) > 0.5 * ink.full
    beyond = np.median(frame if is_mixed and not ink.on_sheet else few)
    for shares in _with_and_without_lines(ink, max(3, round(_THICKEST_LINE * side))):
        for where, own in _regions(shares, side):
            # of three times its length, most is paper
            around = few[_around(where, max(own.shape), _EVERY)]
            paper = np.median(around) if around.size < few.size else beyond
            contrast = float(paper - np.median(ink.bright[where][own > 0.5]))
            if contrast > 0.5 * ink.full:
                corner = ink.corner + np.array([part.start for part in where]) / ink.scale
                yield Candidate(own, corner, ink.scale, contrast)


def _around(where: tuple[slice, ...], far: int, every: int = 1) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, part.start - far) // every, -(-(part.stop + far) // every)) for part in where
    )


def _with_and_without_lines(ink: _Ink, thickest: int) -> Iterator[Grey]:
    """Yield the contrast as a share of that of full ink; and without lines, if it has any.

    What lines cut through is joined again by a closing.
    """
    from scipy import ndimage

    yield ink.contrast / ink.full
    faint = ink.contrast > _LEVELS[0] * ink.full
    lines = _lines(faint, thickest) | _lines(faint.T, thickest).T
    lines = ndimage.binary_dilation(lines, np.ones((3, 3)))
    rest: Grey = np.where(lines, np.float32(0), ink.contrast)
    if lines.any() and (full := _full_ink(rest)) >= _LEAST_CONTRAST:
        rest[lines] = ndimage.grey_closing(rest, (7, 7))[lines]
        yield rest / full


def _lines(ink: Mask, thickest: int) -> Mask:
    """Return the pixels of thin straight lines that are nearer to rows than to columns.

    They are the peaks of the Hough transform (R. O. Duda and P. E. Hart, Comm. ACM 15, 1972) of
    what is thin from above to below, so strokes that cross a line stay.
    """
    from scipy import ndimage

    height, width = ink.shape
    thin = ink & ~ndimage.binary_opening(ink, np.ones((thickest, 1)))
    y, x = np.nonzero(thin[:, ::4])
    # rows that lines meet in the middle of the picture, for each slope
    slopes = np.linspace(-1, 1, 201)[:, np.newaxis]
    rows = (y - slopes * (4 * x - width / 2) + width).astype(int)
    count = height + 2 * width
    places = rows + count * np.arange(len(slopes))[:, np.newaxis]
    votes = np.bincount(places.ravel(), minlength=count * len(slopes))
    found = np.zeros_like(ink)
    columns = np.arange(width)
    for place in np.flatnonzero(votes >= _LEAST_LINE * width / 4):
        slope, middle = slopes[place // count, 0], place % count - width + 0.5
        line = np.floor(middle + slope * (columns - width / 2)).astype(int)
        inside = (line >= 0) & (line < height)
        found[line[inside], columns[inside]] = True
    found = np.asarray(ndimage.binary_dilation(found, np.ones((5, 1))))
    found &= thin
    return found


def _regions(ink: Grey, side: float) -> Iterator[tuple[tuple[slice, ...], Grey]]:
    """Yield connected strokes: where, and their ink from 0 to 1, which is a half at a threshold."""
    from scipy import ndimage

    for level in _LEVELS:
        sharp = np.clip(0.5 + (ink - level) / (2 * min(level, 1 - level)), 0, 1)
        strokes = sharp > 0.5
        for gap in _GAPS:
            near = ndimage.maximum_filter(strokes, 1 + 2 * round(gap * side / 2))
            parts, _ = ndimage.label(near, np.ones((3, 3)))
            inside = np.where(strokes, parts, 0)
            for number, where in _longest(inside, _LEAST_LENGTH * side):
                # with its faint edges
                room = _around(where, 2)
                yield room, (sharp[room] * (parts[room] == number)).astype(np.float32)


def _longest(parts: npt.NDArray[np.intp], least: float) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield the numbers and places of the parts that can be strokes of a digit, longest first.

    What is slender is a line, what fills its box is a sheet or a stain, and what covers a whole
    side of the picture is the edge of a table.
    """
    from scipy import ndimage

    sides = parts[0], parts[-1], parts[:, 0], parts[:, -1]
    found = []
    for number, where in enumerate(ndimage.find_objects(parts), 1):
        short, long = sorted(part.stop - part.start for part in where or [slice(0, 0)] * 2)
        if least <= long <= _SLENDEREST * short:
            filled = (parts[where] == number).mean() > _FILLED and long < 3 * short
            if not filled and not any((one == number).all() for one in sides):
                found.append((long, number, where))
    yield from [one[1:] for one in sorted(found, key=lambda one: -one[0])[:_MOST]]
