"""Candidates: what in a picture could be its digit, as ink on paper.

Nothing is decided here: paper, thresholds, lines and strokes that belong together are hypotheses,
and each gives candidates. `normalize` compares them with the training digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LEAST_CONTRAST = 0.06
_LEAST_SIGNAL = 6.0
"""How many times farther from the paper ink must be than half of the paper's pixels are."""

_EXTREME = 0.0004
"""Share of the pixels that are ink for sure, if there is a digit."""

_LEAST_ODDS = 1.5
"""How many times farther from the paper ink must be than anything on the other side of it."""

_LEAST_SEPARABILITY = 0.8
"""Share of the variance that is between paper and ink where the paper is flat. Uneven light alone
has up to 0.75."""

_FAINTEST = 0.3
_LEVELS = (0.35, 0.5, 0.75)
_USUAL_LEVEL = 0.5
"""Shares of the contrast of full ink from which pixels may be lines, and strokes."""

_LESS_USUAL = 0.25
"""Doubt of a level that is not the usual one, and of the lines that were removed."""

_SPECK = 4
"""Pixels of the smallest stroke."""

_LONGER = 1.7
"""From one distance between strokes of a group to the next."""

_LEAST_OF_LINES = 0.2
"""The pen has at least so much of the contrast of lines."""

_SOLID = 0.85
"""The darkest tenth of a candidate has at least so much of full ink; shades and grain have less."""

_LEAST_SHEET = 0.08
"""Share of the picture that a sheet of paper has at least."""

# shares of the longer side
_LEAST_HEIGHT = 0.03
_MARGIN = 0.01
# shares of the shorter side
_LEAST_LINE = 0.2
_LONG_LINE = 0.6
_THICKEST_LINE = 0.06

_SLENDER = 12
"""How many times as long as thick a line is at least."""

_THICKEST = 0.5
"""Strokes are at most so thick, as a share of the length of the digit."""

_THICKEST_OF_ALL = 0.4
"""The same as a share of the picture: thicker things are no strokes, but sheets or tables."""

_MOST_PARTS = 60

Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """Strokes that could be the digit.

    Attributes
    ----------
    ink : float32 array of shape (height, width), 0 (paper) to 1, cropped to the strokes
    top, left : int
        Where the crop is in the picture.
    contrast : float
        How far full ink is from the paper, in grey levels 0-1.
    doubt : float
        How much speaks against the hypotheses that it is from.
    is_line : bool
        Whether most of it lies on straight lines.
    is_cut : bool
        Whether it goes up to the frame of the picture.
    """

    ink: Grey
    top: int
    left: int
    contrast: float
    doubt: float
    is_line: bool
    is_cut: bool

    @property
    def length(self) -> int:
        """Its longer side in pixels."""
        return int(max(self.ink.shape))

    @property
    def doubts(self) -> float:
        """How much speaks against it, whatever it looks like."""
        return self.doubt + self.is_cut + 3 * self.is_line

    def overlaps(self, other: "Candidate") -> bool:
        """Return whether the bounding boxes have pixels in common."""
        (a, b), (c, d) = self.ink.shape, other.ink.shape
        return bool(
            self.top < other.top + c
            and other.top < self.top + a
            and self.left < other.left + d
            and other.left < self.left + b
        )


def candidates(grey: Grey) -> list[Candidate]:
    """Return what could be the digit of a picture, array of shape (height, width), 0-1.

    Hypotheses: the paper is the whole picture or a sheet in it; long straight lines are on the
    paper or belong to the digit; strokes within some distance of one another belong together.
    """
    found: dict[tuple[int, int, bytes], Candidate] = {}
    for sheet in _sheets(grey):
        for flat, contrast in contrasts(grey, sheet):
            for hypothesis in _hypotheses(contrast, sheet, flat):
                for one in _groups(hypothesis):
                    found.setdefault((one.top, one.left, one.ink.tobytes()), one)
    return list(found.values())


@dataclass(frozen=True)
class _Hypothesis:
    """Ink on a sheet, from 0 to 1, where the lines are, and from which share of ink strokes are."""

    sheet: Mask
    ink: Grey
    lines: Mask
    contrast: float
    doubt: float
    level: float


def _hypotheses(contrast: Grey, sheet: Mask, flat: int) -> Iterator[_Hypothesis]:
    """Yield hypotheses: no line removed, the long lines, all lines; each for each level."""
    full = full_ink(contrast, sheet)
    faintest = contrast > _FAINTEST * full
    if _thickness(faintest) > _THICKEST_OF_ALL * max(contrast.shape):
        return  # a sheet, or a table
    lines, removable = find_lines(faintest)
    found = [(np.zeros_like(sheet), full)]
    # lines can be darker than the pen
    if lines.any() and (pen := full_ink(contrast, sheet & ~lines)) >= _LEAST_OF_LINES * full:
        found += [(removed, pen) for removed in removable if removed.any()]
    for number, (removed, darkest) in enumerate(found):
        ink = np.where(removed | ~sheet, 0, contrast / darkest).astype(np.float32)
        for level in _LEVELS:
            doubt = flat + _LESS_USUAL * (number + (level != _USUAL_LEVEL))
            yield _Hypothesis(sheet, ink, lines, darkest, doubt, level)


def full_ink(contrast: Grey, there: Mask) -> float:
    """Return how far full ink is from the paper."""
    levels = contrast[there]
    most = np.quantile(levels, 1 - _EXTREME) if len(levels) else 0
    return float(np.median(levels[levels > most / 2])) if most > 0 else 0.0


def _sheets(grey: Grey) -> Iterator[Mask]:
    """Yield where the paper may be: the whole picture, and large parts as bright or as dark.

    Bright and dark by Otsu's threshold, once the strokes are closed.
    """
    from scipy import ndimage

    yield np.ones(grey.shape, bool)
    size = max(3, round(0.06 * max(grey.shape)))
    for sign in (1, -1):
        closed = sign * ndimage.grey_closing(sign * grey, (size, size))
        bright = sign * (closed - _otsu(closed)[0]) > 0
        parts, _ = ndimage.label(bright)
        areas = np.bincount(parts.ravel())[1:]
        for number in np.flatnonzero(areas >= _LEAST_SHEET * grey.size) + 1:
            sheet = ndimage.binary_fill_holes(parts == number)
            margin = max(2, round(_MARGIN * max(grey.shape)))
            sheet = ndimage.distance_transform_edt(np.pad(sheet, 1))[1:-1, 1:-1] > margin
            if 0 < sheet.sum() < 0.98 * grey.size:
                yield sheet


def _otsu(grey: Grey) -> tuple[float, float]:
    """Return the threshold with the greatest variance between the classes, and its share of all.

    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979).
    """
    counts, edges = np.histogram(grey, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()[:-1]
    above = grey.size - below
    mass = (counts * middles).cumsum()
    between = np.zeros(len(below))
    two = (below > 0) & (above > 0)
    means = mass[:-1][two] / below[two] - (mass[-1] - mass[:-1][two]) / above[two]
    between[two] = (below * above)[two] / grey.size**2 * means**2
    place = int(between.argmax())
    variance = max(float(grey.var()), 1e-12)
    return float(edges[1 + place]), float(between[place]) / variance


def contrasts(grey: Grey, sheet: Mask) -> Iterator[tuple[int, Grey]]:
    """Yield how far the pixels are from the paper, towards the side of the ink.

    The paper is a smooth surface through most of the pixels, so light may be uneven, or flat: a
    digit that fills the picture bends a surface. Ink is on that side of it, darker or lighter,
    where pixels are farthest away; where both sides are alike, there is only noise, and no ink.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(grey, max(grey.shape) / 500)
    papers = [(_paper(smooth, sheet), 0)]
    if sheet.all():
        threshold, separability = _otsu(smooth)
        bright = smooth > threshold
        if separability >= _LEAST_SEPARABILITY:
            papers += [
                (np.full_like(smooth, np.median(smooth[one])), side)
                for one, side in ((bright, -1), (~bright, 1))
                if one.any()
            ]
    for paper, side in papers:
        lighter = smooth - paper
        low, high = np.quantile(lighter[sheet], [_EXTREME, 1 - _EXTREME])
        ink, most, beyond = (
            (-lighter, -low, high)
            if side < 0 or (side == 0 and -low > high)
            else (lighter, high, -low)
        )
        there = ink[sheet]
        # of the other side, which has no ink
        noise = float(np.median(-there[there <= 0])) if (there <= 0).any() else 0.0
        odds = _LEAST_ODDS if side == 0 else 0.0
        if most >= max(_LEAST_CONTRAST, _LEAST_SIGNAL * noise, odds * beyond):
            yield abs(side), np.where(sheet, ink, 0).astype(np.float32)


def _paper(grey: Grey, sheet: Mask) -> Grey:
    """Fit a quadratic surface to the sheet, by least absolute deviations: ink hardly moves it."""
    rows, columns = (np.linspace(-1, 1, size, dtype=np.float32) for size in grey.shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, max(grey.shape) // 100)
    chosen = sheet[::step, ::step]
    some = terms[::step, ::step][chosen].astype(np.float64)
    levels = grey[::step, ::step][chosen].astype(np.float64)
    weight = np.ones_like(levels)
    for _ in range(30):  # iteratively reweighted least squares
        weighted = some * weight[:, np.newaxis]
        surface = np.linalg.lstsq(weighted.T @ some, weighted.T @ levels, rcond=None)[0]
        weight = 1 / np.maximum(np.abs(levels - some @ surface), 1e-3)
    paper: Grey = terms @ surface.astype(np.float32)
    return paper


def _thickness(strokes: Mask) -> float:
    """Return the diameter of the largest circle in strokes, in pixels."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(strokes, 1))
    return float(2 * depth.max() - 1)


def find_lines(strokes: Mask) -> tuple[Mask, list[Mask]]:
    """Return where thin straight lines of any direction are; and without what crosses them.

    The directions are those of the highest peaks of the Hough transform of the middle lines (R. O.
    Duda and P. E. Hart, Comm. ACM 15, 1972); the lines are what an opening by a line element of
    that direction leaves. Where ink goes on at both sides of a line, a stroke crosses it. What can
    be removed is the long lines, and all of them.
    """
    from scipy import ndimage

    shorter = min(strokes.shape)
    least = round(_LEAST_LINE * shorter)
    lines = np.zeros_like(strokes)
    removable = [np.zeros_like(strokes) for _ in range(2)]
    wide = np.ones((1, 5))
    for angle in _directions(strokes, least):
        turned = ndimage.rotate(strokes.astype(np.float32), angle, order=1) > 0.5
        joined = ndimage.binary_closing(turned, np.ones((1, 7)))
        opened = ndimage.minimum_filter1d(joined.view(np.uint8), least, axis=1)
        opened = ndimage.maximum_filter1d(opened, least, axis=1, origin=-1 + least % 2) > 0
        band = ndimage.binary_dilation(opened, np.ones((3, 1)))
        parts, _ = ndimage.label(band, np.ones((3, 3)))
        lengths = np.array(
            [0] + [box[1].stop - box[1].start for box in ndimage.find_objects(parts)]
        )
        length = lengths[parts]
        rows = np.arange(len(band))[:, np.newaxis]
        above = np.maximum.accumulate(np.where(band, 0, rows), axis=0)
        below = np.minimum.accumulate(np.where(band, len(band) - 1, rows)[::-1], axis=0)[::-1]
        thin = band & (below - above - 3 <= np.minimum(length / _SLENDER, _THICKEST_LINE * shorter))
        above, below = (
            ndimage.binary_dilation(np.take_along_axis(turned, beside, axis=0) & thin, wide)
            for beside in (above, below)
        )
        free = thin & ~(above & below)
        for found, into in (
            (thin, lines),
            (free & (length > _LONG_LINE * shorter), removable[0]),
            (free, removable[1]),
        ):
            back = ndimage.rotate(found.astype(np.float32), -angle, order=1) > 0.3
            spare = (np.array(back.shape) - strokes.shape) // 2
            into |= back[spare[0] :, spare[1] :][: strokes.shape[0], : strokes.shape[1]]
    lines = ndimage.binary_dilation(lines, np.ones((3, 3)), iterations=2)
    return lines, [ndimage.binary_dilation(one) for one in removable]


def _directions(strokes: Mask, least: int) -> list[float]:
    """Return the directions of lines, in degrees: at most six peaks of the Hough transform."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(strokes)
    middle = (
        (depth > 0)
        & (depth == ndimage.maximum_filter(depth, 3))
        & (2 * depth <= _THICKEST_LINE * min(strokes.shape))
    )
    y, x = np.nonzero(middle)
    angles = np.arange(-90, 90, 0.5)
    peaks = np.zeros(len(angles))
    reach = int(np.hypot(*strokes.shape)) + 1
    for place, angle in enumerate(np.radians(angles)):
        # the distance of a line in this direction from the corner, in steps of two pixels
        away = (y * np.cos(angle) - x * np.sin(angle) + reach) / 2
        peaks[place] = np.bincount(away.astype(int), minlength=1).max() if len(x) else 0
    highest = peaks == ndimage.maximum_filter1d(peaks, 9, mode="wrap")
    places = np.flatnonzero(highest & (peaks >= 0.6 * least))
    return [float(angles[place]) for place in places[np.argsort(-peaks[places])][:6]]


def _frame(labels: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Return the four sides of a picture."""
    return [labels[0], labels[-1], labels[:, 0], labels[:, -1]]


def _groups(given: _Hypothesis) -> Iterator[Candidate]:
    """Yield groups of strokes: those at most so far from one another, for longer distances.

    What goes up to the edge of a sheet is left out.
    """
    from scipy import ndimage

    everywhere = np.ones((3, 3), bool)
    # `level` becomes a half
    reach = 2 * min(given.level, 1 - given.level)
    sharp = np.clip(0.5 + (given.ink - given.level) / reach, 0, 1).astype(np.float32)
    strokes = sharp > 0.5
    parts, count = ndimage.label(strokes, everywhere)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes >= max(_SPECK, np.sort(sizes)[-_MOST_PARTS:][0])
    if not given.sheet.all():
        inner = ndimage.binary_erosion(given.sheet, everywhere, iterations=2)
        kept[parts[strokes & ~inner]] = False
    strokes = kept[parts]
    if not strokes.any():
        return
    far = ndimage.distance_transform_edt(~strokes)
    seen = set()
    least = _LEAST_HEIGHT * max(strokes.shape)
    gap = 1.0
    while gap < max(strokes.shape) / 3:
        groups, _ = ndimage.label(far <= gap / 2, everywhere)
        inside = np.where(strokes, groups, 0)
        for number, where in enumerate(ndimage.find_objects(inside), 1):
            if where is None:
                continue
            own = inside[where] == number
            key = (where[0].start, where[1].start, own.shape, int(own.sum()))
            if key in seen or max(own.shape) < least:
                continue
            seen.add(key)
            frame = [side == number for side in _frame(inside)]
            if (
                any(side.all() for side in frame)  # the edge of a table, or a shadow
                or _thickness(own) > _THICKEST * max(own.shape)
                or np.quantile(given.ink[where][own], 0.9) < _SOLID
            ):
                continue
            # faint edges belong to it
            room = tuple(slice(max(0, side.start - 2), side.stop + 2) for side in where)
            yield Candidate(
                sharp[room] * (groups[room] == number),
                room[0].start,
                room[1].start,
                given.contrast,
                given.doubt,
                is_line=bool((given.lines[where] & own).sum() > 0.5 * own.sum()),
                is_cut=any(side.any() for side in frame),
            )
        gap *= _LONGER
