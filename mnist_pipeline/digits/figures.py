"""Figures, drawn with matplotlib in one style and returned as PNG bytes. No HTML, no files."""

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

CMAP = "cividis"
"""Perceptually uniform and safe for colour-blind readers (Nunez et al., PLoS ONE 13, 2018)."""


def _in_one_style(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """Draw with matplotlib's own defaults, whatever matplotlibrc there is."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> bytes:
        import matplotlib.style

        with matplotlib.style.context("default"):
            return draw(*args, **kwargs)

    return styled


@_in_one_style
def confusion_matrix(counts: Sequence[Sequence[int]], *, inches: float = 4.2) -> bytes:
    """Draw 10 x 10 counts [true][predicted], coloured by the share of the true digit's row."""
    from matplotlib.figure import Figure

    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(inches, inches), layout="constrained")
    axes = figure.add_subplot()
    # the square root brings out the mistakes, which are few beside the diagonal
    axes.imshow(np.sqrt(shares), cmap=CMAP, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "black" if shares[row, column] > 0.3 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(matrix)))
    axes.set_yticks(range(len(matrix)))
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit")
    return _png(figure)


@_in_one_style
def digit_row(images: npt.NDArray[np.uint8], titles: Sequence[str]) -> bytes:
    """Draw 28 x 28 digits, an array of shape (n, 784), side by side as ink on paper."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 * len(images), 1.8), layout="constrained")
    for axes, image, title in zip(
        np.atleast_1d(figure.subplots(1, len(images))), images, titles, strict=True
    ):
        axes.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
