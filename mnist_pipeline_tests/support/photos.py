"""Digits as people have them: on paper, under a lamp, in front of a phone."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter


def enlarged(pixels: npt.NDArray[np.uint8], side: int) -> Image.Image:
    """A digit, shape (784,), as white ink on black, `side` pixels a side."""
    square = (side, side)
    return Image.fromarray(pixels.reshape(28, 28)).resize(square, Image.Resampling.BICUBIC)


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
