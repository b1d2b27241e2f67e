"""Figures, drawn with matplotlib in one style and returned as PNG bytes."""

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.shape import WIDTH, width_of
from mnist_pipeline.digits.evaluation.leaderboard import Entry
from mnist_pipeline.digits.evaluation.metrics import calibration_bins, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Theme:
    """Colours that go on one background: of text and lines, of what is right, of what is wrong.

    Right and wrong are blue and vermilion of M. Okabe and K. Ito, "Color universal design" (2008),
    which colour-blind readers can distinguish; lightened on dark.
    """

    ink: str
    faint: str
    paper: str
    right: str
    wrong: str


LIGHT = Theme("#1b1f23", "#8a929a", "#ffffff", "#0072b2", "#d55e00")
DARK = Theme("#e8eaed", "#7d868f", "#1d2125", "#56b4e9", "#ff8a3d")

COUNTS = "cividis"
"""Perceptually uniform and safe for colour-blind readers (Nunez et al., PLoS ONE 13, 2018)."""

SIGNED = "PuOr"
"""Diverging, safe for colour-blind readers (C. Brewer's ColorBrewer)."""

_INCHES = (4.6, 3.4)


def _in_one_style(
    draw: Callable[Concatenate["Figure", P], None],
) -> Callable[Concatenate[Theme, P], bytes]:
    """Draw on a new figure in the colours of a theme, whatever matplotlibrc there is; return PNG.

    The figure belongs to no backend that shows windows, and nothing keeps it.
    """

    @functools.wraps(draw)
    def styled(theme: Theme, /, *args: P.args, **kwargs: P.kwargs) -> bytes:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        style = {
            "font.size": 9.5,
            "figure.facecolor": theme.paper,
            "axes.facecolor": theme.paper,
            "axes.edgecolor": theme.faint,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": f"cycler(color={[theme.right, theme.wrong]})",
            "grid.color": theme.faint,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            **dict.fromkeys(
                ["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], theme.ink
            ),
        }
        with matplotlib.style.context(["default", style]):
            figure = Figure(figsize=_INCHES, dpi=110, layout="constrained")
            draw(figure, *args, **kwargs)
            buffer = io.BytesIO()
            # as `savefig` does, which draws all twice
            canvas: Any = FigureCanvasAgg(figure)
            canvas.print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()

    return styled


@_in_one_style
def confusion_matrix(
    figure: "Figure", counts: Sequence[Sequence[int]], names: Sequence[str]
) -> None:
    """Draw 10 x 10 counts [true][predicted], coloured by the share of the true class's row."""
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure.set_size_inches(4.2, 4.2)
    axes = figure.add_subplot()
    # the square root brings out the mistakes, which are few beside the diagonal
    axes.imshow(np.sqrt(shares), cmap=COUNTS, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "black" if shares[row, column] > 0.3 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(matrix)), names, rotation=90 if max(map(len, names)) > 1 else 0)
    axes.set_yticks(range(len(matrix)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


@_in_one_style
def digits(
    figure: "Figure", images: npt.NDArray[np.uint8], titles: Sequence[str], columns: int = 10
) -> None:
    """Draw digits, an array of shape (n, pixels), as ink on paper with a title of one line each."""
    axes = _tiled(figure, titles, columns, width_of(images), inches=0.6, fontsize=8)
    axes.imshow(_sheet(images, columns), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")


@_in_one_style
def reliability(
    figure: "Figure", confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> None:
    """Draw how often digits of like confidence are right, with Wilson's interval at 95%.

    A point is a bin, larger for more digits. The diagram of M. H. DeGroot and S. E. Fienberg, The
    Statistician 32 (1983), p. 12.
    """
    bins = calibration_bins(confidence, right)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--", label="calibrated")
    full = bins.count > 0
    area = 15 + 160 * bins.count[full] / bins.count.max()
    shares, counts = bins.accuracy[full], bins.count[full]
    each = zip(np.rint(shares * counts).astype(int), counts, strict=True)
    low, high = np.array([wilson(int(right), int(count)) for right, count in each]).T
    axes.vlines(bins.confidence[full], low, high, linewidth=1.5, label="95% interval")
    axes.scatter(bins.confidence[full], shares, area, label="test digits")
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.05), ylim=(0, 1.05))
    axes.grid()
    axes.legend(loc="upper left")


@_in_one_style
def confidences(
    figure: "Figure", confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> None:
    """Draw how many digits have which confidence, right and wrong ones apart."""
    axes = figure.add_subplot()
    groups = {"right": confidence[right], "wrong": confidence[~right]}
    axes.hist(
        list(groups.values()),
        np.linspace(0, 1, 21).tolist(),
        label=[f"{name}: {len(group):,}" for name, group in groups.items()],
    )
    axes.set_yscale("log")
    axes.set(xlabel="confidence", ylabel="test digits (logarithmic)", xlim=(0, 1))
    axes.grid(axis="y")
    axes.legend(loc="upper left")


@_in_one_style
def class_maps(
    figure: "Figure",
    maps: npt.NDArray[np.floating],
    outlines: npt.NDArray[np.floating],
    titles: Sequence[str],
) -> None:
    """Draw what speaks for each class (dark orange) and against it (violet), shape (10, pixels).

    `outlines`, of the same shape, are the mean images of the classes: their contour is drawn.
    """
    axes = _tiled(figure, titles, 5, width_of(maps), inches=1.3)
    shares = -maps / np.maximum(np.abs(maps).max(axis=1, keepdims=True), 1e-12)
    axes.imshow(_sheet(shares, 5, blank=np.nan), cmap=SIGNED, vmin=-1, vmax=1)
    means = outlines / np.maximum(outlines.max(axis=1, keepdims=True), 1e-12)
    if means.any():
        axes.contour(_sheet(means, 5), [0.5], colors="black", linewidths=0.7)


@_in_one_style
def past_models(figure: "Figure", models: Sequence[tuple[float, bool]]) -> None:
    """Draw the accuracy of models in the order of decisions, and which were promoted."""
    figure.set_size_inches(6.4, 2.6)
    axes = figure.add_subplot()
    values, passed = (np.array(both) for both in zip(*models, strict=True))
    order = np.arange(1, len(models) + 1)
    axes.plot(order, values, color="0.5", linewidth=1, zorder=1)
    axes.scatter(order[passed], values[passed], marker="o", label="promoted", zorder=2)
    axes.scatter(order[~passed], values[~passed], marker="X", label="not promoted", zorder=2)
    axes.set(xlabel="decision", ylabel="validation accuracy", xlim=(0.5, len(order) + 0.5))
    axes.set_ylim(top=min(1.0, axes.get_ylim()[1]))
    axes.set_xticks(order[:: -(-len(order) // 10)])
    axes.grid(axis="y")
    axes.legend(loc="best")


@_in_one_style
def variants(figure: "Figure", entries: Sequence[Entry]) -> None:
    """Draw the accuracy of variants, the first on top, with their intervals."""
    names = [one.variant for one in entries]
    figure.set_size_inches(6.4, 1.0 + 0.26 * len(names))
    axes = figure.add_subplot()
    places = np.arange(len(names))
    low, high = np.array([one.accuracy_interval for one in entries]).T
    axes.hlines(places, low, high, color="0.5", linewidth=2, label="95% interval")
    axes.plot([one.accuracy for one in entries], places, "o", label="accuracy")
    axes.set_yticks(places, [name if len(name) < 44 else f"{name[:42]}..." for name in names])
    axes.set(xlabel="validation accuracy", ylim=(len(names) - 0.5, -0.5))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlim(right=min(1.0, axes.get_xlim()[1]))
    axes.grid(axis="x")


@_in_one_style
def epochs(figure: "Figure", accuracies: Sequence[float]) -> None:
    """Draw the validation accuracy after each epoch of a fit."""
    figure.set_size_inches(4.2, 2.6)
    axes = figure.add_subplot()
    axes.plot(range(1, len(accuracies) + 1), accuracies, marker="o")
    axes.set(xlabel="epoch", ylabel="validation accuracy")
    axes.set_ylim(top=min(1.0, axes.get_ylim()[1]))
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y")


def _cell(width: int) -> tuple[int, int]:
    """Return height and width of an image with its title and a gap, in pixels of the images."""
    return width + round(9 * width / WIDTH), width + round(3 * width / WIDTH)


def _sheet(images: npt.NDArray[T], columns: int, blank: float = 0) -> npt.NDArray[T]:
    """Put images, an array of shape (n, pixels), in rows with space for a title over each."""
    count, width, rows = len(images), width_of(images), -(-len(images) // columns)
    high, wide = _cell(width)
    cells = np.full((rows * columns, high, wide), blank, images.dtype)
    cells[:count, -width:, :width] = images.reshape(count, width, width)
    in_rows = cells.reshape(rows, columns, high, wide).swapaxes(1, 2)
    return in_rows.reshape(rows * high, columns * wide)


def _tiled(
    figure: "Figure",
    titles: Sequence[str],
    columns: int,
    width: int,
    *,
    inches: float,
    fontsize: int = 10,
) -> "Axes":
    """Return axes for a `_sheet` of images `width` pixels and `inches` wide, with the titles."""
    high, wide = _cell(width)
    tall, whole = -(-len(titles) // columns) * high, columns * wide
    figure.set_size_inches(inches * columns, inches * columns * tall / whole)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for number, title in enumerate(titles):
        row, column = divmod(number, columns)
        middle, above = column * wide + width / 2, (row + 1) * high - width - 1.5 * width / WIDTH
        axes.text(middle, above, title, ha="center", va="bottom", fontsize=fontsize)
    return axes
