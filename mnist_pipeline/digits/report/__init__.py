"""The report: one self-contained HTML file about one model, from the template beside.

The digits that it shows are chosen in `gallery`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import slices
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.evaluation.metrics import Evaluation, calibration_bins
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.report import figures, gallery, occlusion
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental.digest import content_digest

TUTORIAL_ACCURACY = 0.8844
"""Of the tutorial's own model on its own split of all of MNIST (preset `tutorial`, seed 0)."""

SHOWN_VARIANTS = 40

_AS_OF = re.compile("<!-- as of -->.*?<!-- end of as of -->", re.DOTALL)


@dataclass(frozen=True)
class Report:
    """A page to look at."""

    html: str

    @cached_property
    def data_version(self) -> str:
        """Digest of the page but for what it says "as of" some time."""
        return content_digest(_AS_OF.sub("", self.html))


@dataclass(frozen=True)
class Evidence:
    """Everything a report is made from, about one model."""

    train: Digits
    test: Digits
    model: TrainedModel
    predictions: Predictions
    evaluation: Evaluation
    champion: Champion


@dataclass(frozen=True)
class Decided:
    """A decision of the past about a model.

    `accuracy` is that on its validation rows, None where they were not looked at. `promoted` says
    whether the model was the champion then.
    """

    when: str
    model_version: str
    outcome: str
    why: str
    accuracy: float | None
    promoted: bool


@dataclass(frozen=True)
class Input:
    """What was read, and how that came to be."""

    asset: str
    when: str
    data_version: str
    code_version: str
    libraries: dict[str, str]


@dataclass(frozen=True)
class AsOf:
    """What is known at the time of writing and is no part of the page's content.

    Attributes
    ----------
    when : str
        Date and time.
    run_id : str
    decisions : sequence of Decided
        Newest first.
    inputs : sequence of Input
    leaderboard : Leaderboard or None
        The newest, if there ever was one.
    """

    when: str = "an unknown time"
    run_id: str = ""
    decisions: Sequence[Decided] = ()
    inputs: Sequence[Input] = ()
    leaderboard: Leaderboard | None = None


def render(evidence: Evidence, as_of: AsOf | None = None) -> Report:
    """Fill the template.

    Parameters
    ----------
    evidence : Evidence
    as_of : AsOf, optional
        What stands outside the data version.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    as_of = as_of or AsOf()
    test, predictions = evidence.test, evidence.predictions
    width = width_of(test.pixels)
    cells = gallery.in_cells(test, predictions)
    html = environment.get_template("page.html.j2").render(
        asdict(evidence.evaluation),
        card=registry.by_name(test.origin.source).card,
        width=width,
        patch=occlusion.patch(width),
        champion=evidence.champion,
        model=evidence.model,
        train=evidence.train,
        test=test,
        predictions=predictions,
        params_version=content_digest(evidence.model.params),
        tutorial=_tutorial(evidence),
        as_of=as_of,
        shown_variants=SHOWN_VARIANTS,
        samples=gallery.samples(evidence.train),
        tutorial_tests=gallery.tested(test, predictions, np.arange(min(2, len(test)))),
        mistakes=gallery.worst_mistakes(test, predictions),
        cells={
            cell: [[one.row_id, one.confidence, one.picture] for one in shown]
            for cell, shown in cells.items()
        },
        figures=_figures(evidence, as_of),
    )
    return Report(html)


def class_maps(model: TrainedModel, test: Digits) -> npt.NDArray[np.floating[Any]]:
    """Return what speaks for each class, shape (10, pixels).

    The weights of a classifier that sees pixels; what occlusion finds of one that sees features.
    """
    weights = pixel_weights(model)
    return occlusion.sensitivity(model, test) if weights is None else weights


def pixel_weights(model: TrainedModel) -> npt.NDArray[np.floating[Any]] | None:
    """Return the weights of each class, shape (10, pixels), if the features are pixels."""
    if model.params["features"] not in {"raw", "scaled"}:
        return None
    weights: npt.NDArray[np.floating[Any]] = model.pipeline[-1].coef_
    return weights


def mean_images(digits: Digits) -> npt.NDArray[np.float64]:
    """Return the mean image of each class, shape (10, pixels); 0 for a class without digits."""
    sums = np.zeros((CLASSES, digits.pixels.shape[1]))
    for rows in slices(len(digits)):
        chunk, labels = digits.pixels[rows], digits.labels[rows]
        for digit in range(CLASSES):
            sums[digit] += chunk[labels == digit].sum(axis=0, dtype=np.int64)
    counts = np.bincount(digits.labels, minlength=CLASSES)
    return sums / np.maximum(counts, 1)[:, np.newaxis]


def _tutorial(evidence: Evidence) -> float | None:
    """Return the tutorial's accuracy on this very split, or None if this is another one."""
    origin = evidence.model.origin
    its_own = origin.is_mnist and (origin.test_size, origin.random_state) == (0.2, 42)
    return TUTORIAL_ACCURACY if its_own else None


def _figures(evidence: Evidence, as_of: AsOf) -> dict[str, dict[str, str]]:
    """Draw each figure on light and on dark, as data URLs."""
    test, predictions = evidence.test, evidence.predictions
    maps, means = class_maps(evidence.model, test), mean_images(test)
    draw: dict[str, Callable[[figures.Theme], bytes]] = {
        "class_maps": lambda theme: figures.class_maps(theme, maps, means),
    }
    confidence, right = predictions.confidence, predictions.right
    if confidence is not None:
        bins = calibration_bins(confidence, right)
        draw["reliability"] = lambda theme: figures.reliability(theme, bins)
        draw["confidences"] = lambda theme: figures.confidences(theme, confidence, right)
    if past := [one for one in reversed(as_of.decisions) if one.accuracy is not None]:
        draw["past_models"] = lambda theme: figures.past_models(
            theme,
            [one.accuracy or 0.0 for one in past],
            [one.promoted for one in past],
        )
    if as_of.leaderboard and (shown := as_of.leaderboard.entries[:SHOWN_VARIANTS]):
        draw["variants"] = lambda theme: figures.variants(
            theme,
            [one.variant for one in shown],
            [one.accuracy for one in shown],
            [one.accuracy_interval for one in shown],
        )
    themes = {"light": figures.LIGHT, "dark": figures.DARK}
    return {
        name: {mode: gallery.data_url(one(theme)) for mode, theme in themes.items()}
        for name, one in draw.items()
    }
