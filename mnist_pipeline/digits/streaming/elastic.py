"""Deformation of digits: turned, zoomed, moved, and bent by smooth random fields.

Elastic deformation is that of P. Simard, D. Steinkraus and J. Platt, "Best practices for
convolutional neural networks applied to visual document analysis", ICDAR 2003: fields of random
displacements, smoothed by a Gaussian. As in infinite MNIST (G. Loosli, S. Canu and L. Bottou, 2007)
a digit is bent by a mixture of few out of a bank of fields. All of it is arithmetic of integers, so
that every processor makes the same pixels.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import WIDTH

_ONE = 1 << 16
_HALF = 1 << 15
_ANGLES = 1 << 10
_DRAWS = 9
_SIDE = WIDTH + 2
"""Of the corners of a digit: one pixel of paper around it."""


@dataclass(frozen=True)
class Deformation:
    """How far digits are deformed at most; draws are uniform.

    `rotation` is in degrees to either side, `zoom` the change of height and of width, each by
    itself, as a fraction, `shift` in pixels in each direction. As in Simard et al., `sigma` is the
    width of the Gaussian in pixels, and `alpha` what smoothed displacements, drawn between -1 and 1
    pixel, are multiplied with. Each digit is bent by two of the `fields`, with weights between -1
    and 1.
    """

    rotation: float = 10.0
    zoom: float = 0.1
    shift: float = 1.5
    sigma: float = 4.0
    alpha: float = 34.0
    fields: int = 256
    seed: int = 42

    def deform(
        self,
        corners: npt.NDArray[np.uint32],
        which: npt.NDArray[np.int64],
        number: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.uint8]:
        """Deform n digits, each by its own number (a seed, from 0), independent of the others.

        `corners`, uint32 of shape (m, 900), are `corners_of` all digits, of which `which`, of shape
        (n,), are deformed. Returned are uint8 pixels of shape (n, 784), interpolated bilinearly.
        """
        draw = self._draws(number)
        # a column for each digit's number of that kind
        angle, down, right, top, left, one, other = (draw[:, [kind]] for kind in range(7))
        cosine, sine = self._turns[:, (angle * _ANGLES) >> 16]
        zooms = [_ONE + _within(one_draw, self.zoom * _ONE) for one_draw in (down, right)]
        # in half pixels from the middle
        grid = 2 * np.arange(WIDTH, dtype=np.int32) - (WIDTH - 1)
        bank, shifts = self._fields, (top, left)
        chosen = [(field[:, 0] * self.fields) >> 16 for field in (one, other)]
        weights = [(draw[:, [kind]] - _HALF).astype(np.int32) for kind in (7, 8)]
        at = []
        for axis, (by_row, by_column) in enumerate([(cosine, -sine), (sine, cosine)]):
            of_row = ((by_row * zooms[0]) >> 16).astype(np.int32) * grid
            of_column = ((by_column * zooms[1]) >> 16).astype(np.int32) * grid
            place = (of_row[:, :, np.newaxis] + of_column[:, np.newaxis, :]).reshape(-1, WIDTH**2)
            place >>= 9  # from 2 ** -17 to 2 ** -8 pixels
            bent = bank[axis, chosen[0]] * weights[0]
            bent += bank[axis, chosen[1]] * weights[1]
            bent >>= 15
            place += bent
            moved = _within(shifts[axis], self.shift * 256) + 128 * (WIDTH - 1)
            place += moved.astype(np.int32)
            # from the paper above or left of the digit to that below or right
            np.clip(place, -256, 256 * WIDTH, out=place)
            place += 256
            at.append(place)
        return _interpolated(corners, which, *at)

    def _draws(self, number: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return numbers from 0 to 65,535, shape (n, 9), for each number and from it alone."""
        words = -(-_DRAWS // 4)
        counter = number[:, np.newaxis] * words + np.arange(words)
        mixed = _mixed(counter.astype(np.uint64), self.seed)
        parts = [(mixed >> np.uint64(shift)).astype(np.uint16) for shift in (48, 32, 16, 0)]
        return np.stack(parts, axis=2).reshape(len(number), -1)[:, :_DRAWS].astype(np.int64)

    @cached_property
    def _fields(self) -> npt.NDArray[np.int32]:
        """Displacements down and right in 256ths of a pixel, shape (2, fields, 784)."""
        reach = math.ceil(3 * self.sigma)
        size = WIDTH + 2 * reach
        steps = range(-reach, reach + 1)
        weights = [round(4096 * math.exp(-(step**2) / (2 * self.sigma**2))) for step in steps]
        smooth = np.zeros((WIDTH, size), np.int64)
        for row in range(WIDTH):
            smooth[row, row : row + len(weights)] = weights
        counter = np.arange(2 * self.fields * size**2, dtype=np.uint64)
        noise = (_mixed(counter, ~self.seed) >> np.uint64(52)).astype(np.int64) - 2048
        fields = smooth @ noise.reshape(-1, size, size) @ smooth.T
        # noise of 2048 is one pixel
        fields = fields * round(1000 * self.alpha) // (1000 * 8 * sum(weights) ** 2)
        return fields.reshape(2, self.fields, WIDTH**2).astype(np.int32)

    @cached_property
    def _turns(self) -> npt.NDArray[np.int64]:
        most = math.radians(self.rotation)
        angles = [most * (2 * turn / (_ANGLES - 1) - 1) for turn in range(_ANGLES)]
        return np.array(
            [[round(_ONE * of(angle)) for angle in angles] for of in (math.cos, math.sin)]
        )


def corners_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return every pixel with those to the right, below, and right below, as one number of 32 bits.

    From uint8 of shape (m, 784) to uint32 of shape (m, 900), with a pixel of paper around:
    interpolation looks up one number where it would four.
    """
    padded = np.pad(pixels.reshape(-1, WIDTH, WIDTH), ((0, 0), (1, 2), (1, 2))).astype(np.uint32)
    parts = [padded[:, y : y + _SIDE, x : x + _SIDE] for y in (0, 1) for x in (0, 1)]
    packed = parts[0] | parts[1] << 8 | parts[2] << 16 | parts[3] << 24
    return np.ascontiguousarray(packed.reshape(len(pixels), -1))


def _interpolated(
    corners: npt.NDArray[np.uint32],
    which: npt.NDArray[np.int64],
    y: npt.NDArray[np.int32],
    x: npt.NDArray[np.int32],
) -> npt.NDArray[np.uint8]:
    place = (y >> 8) * _SIDE + (x >> 8) + (which[:, np.newaxis] * corners.shape[1])
    found = corners.reshape(-1).take(place, mode="clip")
    y, x = y & 255, x & 255
    ink = [((found >> shift) & 255).astype(np.int32) for shift in (0, 8, 16, 24)]
    above = (ink[0] << 8) + (ink[1] - ink[0]) * x
    below = (ink[2] << 8) + (ink[3] - ink[2]) * x
    above <<= 8
    above += (below - (above >> 8)) * y
    above += _HALF
    above >>= 16
    ink_of_all: npt.NDArray[np.uint8] = above.astype(np.uint8)
    return ink_of_all


def _within(draw: npt.NDArray[np.int64], most: float) -> npt.NDArray[np.int64]:
    """Map draws from 0 to 65,535 to whole numbers from -most to most."""
    return (draw - _HALF) * round(most) // _HALF


def _mixed(counter: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each number: SplitMix64, counted instead of stepped.

    G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    start = (seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**64
    z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
