"""An ARFF file of the shape of Fashion-MNIST's: simple silhouettes of ten classes of garments."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Polygon = list[tuple[float, float]]

_BODY: Polygon = [(9, 5), (19, 5), (19, 24), (9, 24)]
_LONG_SLEEVES: list[Polygon] = [
    [(9, 5), (4, 9), (3, 23), (6, 23), (9, 11)],
    [(19, 5), (24, 9), (25, 23), (22, 23), (19, 11)],
]
_SHORT_SLEEVES: list[Polygon] = [
    [(9, 5), (3, 10), (6, 13), (9, 10)],
    [(19, 5), (25, 10), (22, 13), (19, 10)],
]
_OUTLINES: list[tuple[list[Polygon], list[Polygon]]] = [
    ([_BODY, *_SHORT_SLEEVES], []),
    ([[(9, 2), (19, 2), (21, 26), (16, 26), (14, 8), (12, 26), (7, 26)]], []),
    ([_BODY, *_LONG_SLEEVES], []),
    ([[(11, 2), (17, 2), (16, 10), (22, 26), (6, 26), (12, 10)]], []),
    ([_BODY, *_LONG_SLEEVES], [[(13, 5), (15, 5), (15, 25), (13, 25)]]),
    ([[(2, 20), (26, 16), (26, 20), (2, 22)], [(20, 8), (23, 8), (24, 18), (21, 18)]], []),
    ([_BODY, *_SHORT_SLEEVES], [[(9, 9), (19, 9), (19, 12), (9, 12)]]),
    ([[(2, 14), (10, 14), (18, 9), (26, 10), (26, 20), (2, 20)]], []),
    ([[(4, 11), (24, 11), (26, 24), (2, 24)], [(9, 4), (19, 4), (20, 11), (8, 11)]],
     [[(11, 6), (17, 6), (17, 11), (11, 11)]]),
    ([[(14, 3), (25, 3), (26, 24), (2, 24), (2, 18), (14, 15)]], []),
]  # fmt: skip
"""Of each class, what is filled and what is left out of it, in pixels."""


def images(count: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return pixels, uint8 of shape (count, 784), light on black, and labels, class by class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    pixels = [_image(int(label), random) for label in labels]
    return np.array(pixels).reshape(count, -1), labels


def arff(count: int) -> bytes:
    """Return the file, with a header as OpenML's has."""
    pixels, labels = images(count)
    header = ["% silhouettes", "@RELATION Fashion-MNIST"]
    header += [f"@ATTRIBUTE pixel{number} REAL" for number in range(1, 785)]
    header += ["@ATTRIBUTE class {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}", "@DATA"]
    rows = io.StringIO()
    np.savetxt(rows, np.column_stack([pixels, labels]), "%d", ",")
    return ("\n".join(header) + "\n" + rows.getvalue()).encode()


def _image(label: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a garment a little moved, of a random brightness and with noise."""
    paper = Image.new("L", (28, 28))
    draw = ImageDraw.Draw(paper)
    light, moved = int(random.integers(130, 256)), random.integers(-1, 2, 2)
    for polygons, ink in zip(_OUTLINES[label], (light, 0), strict=True):
        for polygon in polygons:
            edges = np.array(polygon) + moved + random.normal(0, 0.5, (len(polygon), 2))
            draw.polygon([tuple(corner) for corner in edges.tolist()], fill=ink)
    drawn = np.array(paper)
    noise = random.normal(0, 8, drawn.shape)
    return np.where(drawn > 0, np.clip(drawn + noise, 1, 255), 0).astype(np.uint8)
