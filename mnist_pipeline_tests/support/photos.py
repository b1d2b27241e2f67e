"""Digits as people have them: on paper, under a lamp, in front of a phone."""

import functools
import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from mnist_pipeline.digits.model.typicality import Reference
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode


@functools.cache
def reference() -> Reference:
    """What a model of the sample has to compare pictures with."""
    table = decode(sample.read())
    row = np.random.default_rng(0).permutation(len(table.labels))
    fitted, held_out = row[500:], row[:500]
    return Reference.of(table.pixels[fitted], table.labels[fitted], table.pixels[held_out])


def enlarged(pixels: npt.NDArray[np.uint8], side: int) -> Image.Image:
    """A digit, shape (784,), as white ink on black, `side` pixels a side."""
    square = (side, side)
    return Image.fromarray(pixels.reshape(28, 28)).resize(square, Image.Resampling.BICUBIC)


def on_paper(pixels: npt.NDArray[np.uint8], *, side: int = 280, margin: int = 60) -> Image.Image:
    """Black ink on white paper."""
    paper = Image.new("L", (side + 2 * margin, side + 2 * margin), 255)
    paper.paste(0, (margin, margin), enlarged(pixels, side))
    return paper


def crops(pixels: npt.NDArray[np.uint8]) -> dict[str, Image.Image]:
    """A digit cropped to its bounding box; the same as a square, and with paper above and below."""
    whole = on_paper(pixels)
    tight = whole.crop(whole.point(lambda v: 255 * (v < 128)).getbbox())
    square = Image.new("L", (max(tight.size),) * 2, 255)
    square.paste(tight, ((square.width - tight.width) // 2, (square.width - tight.height) // 2))
    between = Image.new("L", (tight.width, tight.height + 80), 255)
    between.paste(tight, (0, 40))
    return {"tight": tight, "square": square, "between": between}


def small(pixels: npt.NDArray[np.uint8]) -> dict[str, Image.Image]:
    """A digit of 20 pixels: MNIST's own image, its bounding box, and that with a little paper."""
    whole = Image.fromarray(pixels.reshape(28, 28))
    tight = ImageOps.invert(whole.crop(whole.getbbox()))
    padded = ImageOps.expand(tight, 2, 255)
    return {"28 px": whole, "20 px": tight, "20 px and 2 of paper": padded}


def two_digits(
    one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator
) -> Image.Image:
    """Two digits beside or below one another on one sheet, not touching."""
    side, room = int(rng.integers(120, 260)), int(rng.integers(10, 80))
    size = (2 * side + 3 * room, side + 2 * room)
    paper = Image.new("L", size, int(rng.integers(200, 256)))
    pen = int(rng.integers(0, 80))
    paper.paste(pen, (room, room), enlarged(one, side))
    paper.paste(pen, (2 * room + side, room), enlarged(other, side))
    return paper


SHAPES: dict[str, list[list[tuple[float, float]]]] = {
    "triangle": [[(0.5, 0), (1, 1), (0, 1), (0.5, 0)]],
    "star": [[(0.2, 1), (0.5, 0), (0.8, 1), (0, 0.4), (1, 0.4), (0.2, 1)]],
    "arrow": [[(0, 0.5), (1, 0.5)], [(0.6, 0.1), (1, 0.5), (0.6, 0.9)]],
    "house": [[(0.1, 1), (0.1, 0.4), (0.5, 0), (0.9, 0.4), (0.9, 1), (0.1, 1)]],
    "window": [
        [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)],
        [(0.5, 0), (0.5, 1)],
        [(0, 0.5), (1, 0.5)],
    ],
    "M": [[(0, 1), (0.1, 0), (0.5, 0.7), (0.9, 0), (1, 1)]],
    "W": [[(0, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (1, 0)]],
    "K": [[(0.1, 0), (0.1, 1)], [(0.9, 0), (0.1, 0.55), (0.9, 1)]],
    "E": [[(0.9, 0), (0.1, 0), (0.1, 1), (0.9, 1)], [(0.1, 0.5), (0.8, 0.5)]],
    "zigzag": [[(0, 0.6), (0.2, 0.3), (0.4, 0.7), (0.6, 0.3), (0.8, 0.7), (1, 0.4)]],
}
"""Strokes, in shares of the side, of what is no digit."""


def shape(name: str, rng: np.random.Generator) -> Image.Image:
    """One of the `SHAPES` in a thick pen on white paper."""
    paper = Image.new("L", (400, 400), 255)
    angle = np.radians(rng.uniform(-8, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = rng.uniform(140, 300, 2)
    for stroke in SHAPES[name]:
        points = ((np.array(stroke) - 0.5) * scale) @ turn + 200
        ends = [(float(x), float(y)) for x, y in points]
        ImageDraw.Draw(paper).line(ends, 20, int(rng.integers(14, 26)), joint="curve")
    return paper.filter(ImageFilter.GaussianBlur(1.5))


def empty(rng: np.random.Generator) -> Image.Image:
    """Paper with nothing on it, unevenly lit and noisy."""
    y, x = np.mgrid[0:1:300j, 0:1:400j]
    vignette = ((x - 0.5) ** 2 + (y - 0.5) ** 2) * rng.uniform(0, 1)
    light = 0.9 - 0.4 * rng.random() * x - vignette
    noise = rng.normal(0, 0.06 * rng.random(), (300, 400))
    return Image.fromarray(np.clip(255 * (light + noise), 0, 255).astype(np.uint8))


def photo(
    pixels: npt.NDArray[np.uint8], rng: np.random.Generator, *, inverted: bool
) -> Image.Image:
    """A photo of 300 to 800 pixels a side of a digit somewhere on coloured paper.

    Turned by up to 10 degrees, under uneven light, out of focus, with the noise of a sensor.
    `inverted` is light ink on dark paper.
    """
    width, height = (int(side) for side in rng.integers(300, 801, 2))
    side = int(rng.uniform(0.25, 0.8) * min(width, height))
    turn = rng.uniform(-10, 10)
    digit = enlarged(pixels, side).rotate(turn, Image.Resampling.BICUBIC, expand=True)
    room = max(width - digit.width, 0), max(height - digit.height, 0)
    drawn = Image.new("L", (width, height), 0)
    drawn.paste(digit, (int(rng.integers(0, room[0] + 1)), int(rng.integers(0, room[1] + 1))))
    ink = np.asarray(drawn, float)[..., np.newaxis] / 255
    if inverted:
        paper, pen = rng.uniform(10, 70, 3), rng.uniform(190, 255, 3)
    else:
        paper, pen = rng.uniform([200, 190, 160], [255, 250, 235]), rng.uniform(0, 90, 3)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    towards = rng.uniform(0, 2 * np.pi)
    slope = np.cos(towards) * x + np.sin(towards) * y
    slope = (slope - slope.min()) / np.ptp(slope)
    corners = (x - 0.5) ** 2 + (y - 0.5) ** 2
    light = 1 - rng.uniform(0.1, 0.45) * slope - rng.uniform(0, 0.3) * corners
    seen = (paper * (1 - ink) + pen * ink) * light[..., np.newaxis]
    focus = ImageFilter.GaussianBlur(rng.uniform(0.5, 3))
    blurred = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).filter(focus)
    noisy = np.asarray(blurred, float) + rng.normal(0, rng.uniform(2, 10), (height, width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **more: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


PAGES = ("margin", "double", "ruled", "squared", "fold", "box", "frame", "table")
"""Kinds of pages: one or two margin lines, ruled or squared paper, folds, a printed box around the
digit, a dark frame around the picture, and a sheet on a table, seen from the side."""

_Lines = list[tuple[float, float, float, float]]


def _digit_on(
    pixels: npt.NDArray[np.uint8], rng: np.random.Generator, kind: str, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], tuple[float, float, float, float]]:
    """The ink of a digit somewhere on a page, 0-1, and its bounding box."""
    width, height = size
    side = int(rng.uniform(0.3, 0.75) * min(size))
    digit = enlarged(pixels, side)
    if rng.random() < 0.4:  # a thinner pen
        digit = digit.filter(ImageFilter.MinFilter(1 + 2 * max(1, round(side / 28 * 0.6))))
    digit = digit.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    left = {"margin": 0.22, "double": 0.22}.get(kind, 0.05) * width
    x = int(rng.uniform(left, max(left, 0.97 * width - digit.width)))
    y = int(rng.uniform(0.05, max(0.05, 0.95 - digit.height / height)) * height)
    drawn = Image.new("L", size, 0)
    drawn.paste(digit, (x, y))
    box = drawn.point(lambda v: 255 * (v > 60)).getbbox() or (0, 0, *size)
    return np.asarray(drawn, float) / 255, box


def _lines(
    rng: np.random.Generator, kind: str, size: tuple[int, int], box: tuple[float, ...]
) -> _Lines:
    """The lines of a kind of page, from (x, y) to (x, y)."""
    width, height = size
    turned = rng.uniform(-0.03, 0.03)

    def down(x: float) -> tuple[float, float, float, float]:
        return (x, -5, x + turned * height, height + 5)

    def across(y: float) -> tuple[float, float, float, float]:
        return (-5, y, width + 5, y - turned * width)

    margin = rng.uniform(0.06, 0.18) * width
    step = rng.uniform(0.09, 0.2) * min(size)
    match kind:
        case "margin":
            return [down(margin)]
        case "double":
            return [down(margin), down(margin + rng.uniform(0.012, 0.03) * width)]
        case "ruled":
            return [across(y) for y in np.arange(rng.uniform(0, step), height * 1.05, step)]
        case "squared":
            columns = [down(x) for x in np.arange(rng.uniform(0, step), width * 1.05, step)]
            return columns + [across(y) for y in np.arange(rng.uniform(0, step), height, step)]
        case "box":
            room = rng.uniform(0.06, 0.3) * max(box[2] - box[0], box[3] - box[1])
            a, b, c, d = box[0] - room, box[1] - room, box[2] + room, box[3] + room
            if rng.random() < 0.5:  # a square one
                half = max(c - a, d - b) / 2
                a, c = (a + c) / 2 - half, (a + c) / 2 + half
                b, d = (b + d) / 2 - half, (b + d) / 2 + half
            return [(a, b, c, b), (c, b, c, d), (c, d, a, d), (a, d, a, b)]
    return []


def _drawn(lines: _Lines, size: tuple[int, int], thick: float) -> npt.NDArray[np.float64]:
    """Ink of lines so many pixels thick, 0-1, with smooth edges."""
    fine = 3
    page = Image.new("L", (fine * size[0], fine * size[1]), 0)
    for line in lines:
        ends = [fine * end for end in line]
        ImageDraw.Draw(page).line(ends, 255, max(1, round(fine * thick)))
    return np.asarray(page.resize(size, Image.Resampling.BOX), float) / 255


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A table: of one colour, or of wood, in RGB."""
    colour = np.array([[35, 30, 28], [110, 75, 45], [70, 72, 75], [150, 110, 70]])[rng.integers(4)]
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / min(size)
    towards, waves = rng.uniform(0, np.pi), rng.uniform(15, 60)
    along = np.cos(towards) * x + np.sin(towards) * y
    grain = np.sin(waves * (along + 0.05 * np.sin(5 * (x - y)))) * rng.uniform(0, 0.15)
    return np.asarray(colour * (1 + grain[..., np.newaxis]))


def _seen_from_the_side(
    page: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """A sheet on a table: its corners a little moved, and turned by up to 12 degrees."""
    height, width = page.shape[:2]
    angle = np.radians(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.66, 0.85)
    corners = (corners + rng.uniform(-0.08, 0.08, (4, 2))) @ turn
    to = (corners * min(width, height) / max(width, height) + 1) / 2 * [width, height]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    rows, wanted = [], []
    for (x, y), (u, v) in zip(to, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    view = tuple(np.linalg.solve(np.array(rows), np.array(wanted)))

    def moved(image: Image.Image) -> npt.NDArray[np.float64]:
        kinds = Image.Transform.PERSPECTIVE, view, Image.Resampling.BICUBIC
        return np.asarray(image.transform((width, height), *kinds), float)

    sheet = moved(Image.fromarray(np.clip(page, 0, 255).astype(np.uint8)))
    there = moved(Image.new("L", (width, height), 255))[..., np.newaxis] / 255
    return sheet * there + _texture(rng, (width, height)) * (1 - there)


def page(pixels: npt.NDArray[np.uint8], rng: np.random.Generator, kind: str) -> bytes:
    """A phone's JPEG, 350 to 900 pixels a side, of a digit on a page of one of the `PAGES`."""
    size = int(rng.integers(350, 901)), int(rng.integers(350, 901))
    width, height = size
    ink, box = _digit_on(pixels, rng, kind, size)
    paper, pen = rng.uniform([205, 200, 175], [255, 250, 240]), rng.uniform(0, 85, 3)
    colour = np.array([[215, 80, 80], [95, 130, 205], [150, 150, 155], [40, 40, 45]])
    line = colour[rng.integers(2, 4) if kind == "box" else rng.integers(4)]
    if kind in {"ruled", "squared"}:
        line = colour[rng.integers(3)] * 0.6 + 0.4 * paper
    thick = rng.uniform(0.003, 0.012) * min(size)
    printed = _drawn(_lines(rng, kind, size, box), size, thick)[..., np.newaxis]
    seen = paper * (1 - printed) + line * printed
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    if kind == "fold":
        for upright in rng.permutation([True, False])[: rng.integers(1, 3)]:
            across, along = (x, y) if upright else (y, x)
            place = rng.uniform(0.25, 0.75) + rng.uniform(-0.05, 0.05) * along
            off = (across - place) * (width if upright else height)
            crease = np.exp(-((off / rng.uniform(1, 4)) ** 2)) * rng.uniform(-0.15, 0.5)
            seen *= (1 - crease - rng.uniform(0, 0.12) * (off > 0))[..., np.newaxis]
    seen = seen * (1 - ink[..., np.newaxis]) + pen * ink[..., np.newaxis]
    if kind == "frame":
        edge = rng.uniform(0.015, 0.08) * min(size)
        sides = np.minimum(np.minimum(x, 1 - x) * width, np.minimum(y, 1 - y) * height)
        seen = np.where((sides < edge)[..., np.newaxis], rng.uniform(0, 60, 3), seen)
    if kind == "table":
        seen = _seen_from_the_side(seen, rng)
    towards = rng.uniform(0, 2 * np.pi)
    slope = np.cos(towards) * x + np.sin(towards) * y
    light = 1 - rng.uniform(0, 0.4) * (slope - slope.min()) / np.ptp(slope)
    seen *= light[..., np.newaxis]
    blurred = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
    blurred = blurred.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2)))
    noisy = np.asarray(blurred, float) + rng.normal(0, rng.uniform(1, 7), (height, width, 1))
    image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return encoded(image, "JPEG", quality=int(rng.integers(50, 96)))
