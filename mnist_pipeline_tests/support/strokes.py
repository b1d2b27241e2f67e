"""The strokes of a digit: what a pen would have done to draw it."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from skimage.morphology import skeletonize

from mnist_pipeline_tests.support.photos import enlarged

SIDE = 280
_EVERY = 12
_NEXT = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]

Point = tuple[int, int]


def strokes(pixels: npt.NDArray[np.uint8]) -> list[list[Point]]:
    """Trace the middle line of a digit, shape (784,): lists of (row, column) in 280 x 280."""
    line = skeletonize(np.asarray(enlarged(pixels, SIDE)) > 100)  # type: ignore[no-untyped-call]
    left = {(int(row), int(column)) for row, column in np.argwhere(line)}

    def beside(point: Point) -> list[Point]:
        around = [(point[0] + down, point[1] + right) for down, right in _NEXT]
        return [one for one in around if one in left]

    found: list[list[Point]] = []
    while left:
        start = min(left, key=lambda point: (len(beside(point)), point))  # an end, if there is one
        path = [start]
        left.discard(start)
        while following := beside(path[-1]):
            path.append(following[0])
            left.discard(following[0])
        if len(path) > _EVERY or not found:
            found.append([*path[::_EVERY], path[-1]])
    return found


def drawn(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """A digit's strokes as the drawing page sends them: a pen of 0.07 of the side, round ends."""
    paper = Image.new("L", (2 * SIDE, 2 * SIDE), 255)
    pen, radius = ImageDraw.Draw(paper), round(0.07 * SIDE)
    for stroke in strokes(pixels):
        points = [(2.0 * column, 2.0 * row) for row, column in stroke]
        pen.line(points, 0, 2 * radius)
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), 0)
    return paper
