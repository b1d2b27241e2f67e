"""How pictures of one digit, and of none, are read: right, wrong or refused, by kind of picture.

Run it with `python -m benchmarks.own_digits DATA SEED [COUNT]`: a data folder with a champion, a
seed for the pictures (what is developed on has another than what is reported), and how many of each
kind. Test digits of even rows are for even seeds, odd ones for odd seeds. Pictures are kept in
`DATA/own_digits`.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images.classify import read_digit, warning
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline_tests.support import photos
from mnist_pipeline_tests.support.strokes import drawn

CROPS = ("tight", "square", "between")
SMALL = ("28 px", "20 px", "20 px and 2 of paper")
NONE = ("lying", "shape", "two", "empty")
"""Kinds without one upright digit: to answer them without a warning is wrong."""

KINDS = ("photo", "light ink", *photos.PAGES, "strokes", *CROPS, *NONE, *SMALL)


def picture(kind: str, digits: Digits, row: int, rng: np.random.Generator) -> bytes:
    """Render one picture of a kind."""
    pixels = digits.pixels[row]
    image: Image.Image
    if kind in photos.PAGES:
        return photos.page(pixels, rng, kind)
    if kind in CROPS + SMALL:
        image = (photos.crops(pixels) | photos.small(pixels))[kind]
    elif kind in {"photo", "light ink"}:
        image = photos.photo(pixels, rng, inverted=kind == "light ink")
    elif kind == "strokes":
        image = drawn(pixels)
    elif kind == "lying":
        image = photos.on_paper(np.ascontiguousarray(np.rot90(pixels.reshape(28, 28))).ravel())
    elif kind == "shape":
        image = photos.shape(str(rng.choice(list(photos.SHAPES))), rng)
    elif kind == "two":
        image = photos.two_digits(pixels, digits.pixels[rng.integers(len(digits))], rng)
    else:
        image = photos.empty(rng)
    return photos.encoded(image)


def pictures(folder: Path, digits: Digits, seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """Yield the kinds and files of pictures; the last part of a file's name is the digit."""
    for place, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, place])
        rows = np.arange(seed % 2, len(digits), 2)
        if kind == "lying":  # a 0, 1 or 8 on its side is not clearly none
            rows = rows[~np.isin(digits.labels[rows], [0, 1, 8])]
        for number, row in enumerate(rng.choice(rows, count, replace=False)):
            label = "none" if kind in NONE else digits.labels[row]
            file = folder / str(seed) / f"{kind}_{number}_{label}.png"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(
                    picture(kind, digits, int(row), np.random.default_rng([seed, place, number]))
                )
            yield kind, file


def outcome(model: TrainedModel, file: Path) -> str:
    """Return what came of a picture: right, wrong, refused, and whether with a warning."""
    try:
        reading = read_digit(model, file.read_bytes())
    except PictureError:
        return "refused"
    found = "right" if file.stem.rpartition("_")[2] == str(reading.digit) else "wrong"
    return found if warning(reading.typicality) is None else f"{found}, warned"


def main(data: str, seed: str, count: str = "60") -> None:
    """Print the table."""
    [file] = Path(data).glob("sgd_model/*/sgd_model.skops")
    model = persistence.loads(file.read_bytes())
    [file] = Path(data).glob("test_set/*/test_set.parquet")
    digits = Digits.read(file)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    seconds = []
    for kind, file in pictures(Path(data) / "own_digits", digits, int(seed), int(count)):
        start = time.process_time()
        found[kind][outcome(model, file)] += 1
        seconds.append(time.process_time() - start)
    columns = ("right", "right, warned", "wrong", "wrong, warned", "refused")
    print("| kind |", " | ".join(columns), "|")
    print("|---" * (1 + len(columns)) + "|")
    pages = sum((found[kind] for kind in photos.PAGES), Counter[str]())
    for kind, counts in [*found.items(), ("all pages", pages)]:
        shares = [f"{counts[column] / counts.total():.3f}" for column in columns]
        print(f"| {kind} |", " | ".join(shares), "|")
    usual, most = np.quantile(seconds, [0.5, 0.95])
    print(f"CPU seconds a picture: {usual:.3f} (median), {most:.3f} (95%)")


if __name__ == "__main__":
    main(*sys.argv[1:])
