"""The report: one self-contained HTML file about one model, from the template `page.html.j2`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial

import numpy as np

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation.champion import Champion, Past
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.report import about, contents, figures
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental.digest import content_digest

TUTORIAL_ACCURACY = 0.8844
"""Of the tutorial's own model on its own split of all of MNIST (preset `tutorial`, seed 0)."""

SHOWN_VARIANTS = 40

_AS_OF = re.compile("<!-- as of -->.*?<!-- end of as of -->", re.DOTALL)


@dataclass(frozen=True)
class Report:
    """The page."""

    html: str

    @cached_property
    def data_version(self) -> str:
        """Digest of the page but for its parts "as of" some time."""
        return content_digest(_AS_OF.sub("", self.html))


@dataclass(frozen=True)
class Evidence:
    """The inputs of a report about one model."""

    train: Digits
    test: Digits
    model: TrainedModel
    predictions: Predictions
    evaluation: Evaluation
    champion: Champion


@dataclass(frozen=True)
class Input:
    """A result that the report was computed from, and what computed it."""

    asset: str
    when: str
    data_version: str
    code_version: str
    libraries: dict[str, str]


@dataclass(frozen=True)
class AsOf:
    """What is known at the time of writing and does not count for the page's data version.

    `decisions` are newest first, `leaderboard` is the newest if there is one.
    """

    when: str = "an unknown time"
    run_id: str = ""
    decisions: Sequence[Past] = ()
    inputs: Sequence[Input] = ()
    leaderboard: Leaderboard | None = None


def utc(timestamp: float) -> str:
    """Return a time (seconds since 1970) in UTC, to the minute."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")


def render(evidence: Evidence, as_of: AsOf = AsOf()) -> Report:
    """Fill the template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["utc"] = utc
    model, test, predictions = evidence.model, evidence.test, evidence.predictions
    split = model.origin.test_size, model.origin.random_state
    mistakes = contents.mistakes(predictions)[: contents.WORST]
    source = registry.by_name(test.origin.source)
    html = environment.get_template("page.html.j2").render(
        asdict(evidence.evaluation),
        champion=evidence.champion,
        model=model,
        train=evidence.train,
        test=test,
        predictions=predictions,
        card=about.sections(source, model, evidence.evaluation),
        data_name=about.data_name(source, test.origin),
        noun=source.noun,
        names=source.class_names,
        named=max(map(len, source.class_names)) > 1,
        patch=contents.patch(model.width),
        params_version=content_digest(model.params),
        # the tutorial's accuracy is on its own split of all of MNIST
        tutorial=TUTORIAL_ACCURACY if model.origin.is_mnist and split == (0.2, 42) else None,
        as_of=as_of,
        shown_variants=SHOWN_VARIANTS,
        samples=contents.samples(evidence.train),
        tutorial_digits=[
            *contents.shown(evidence.train, np.arange(1)),
            *contents.shown(test, np.arange(min(2, len(test))), predictions),
        ],
        mistakes=contents.shown(test, mistakes, predictions),
        cells={
            cell: [[one.row_id, one.confidence, one.picture] for one in shown]
            for cell, shown in contents.in_cells(test, predictions).items()
        },
        figures=_figures(evidence, as_of),
    )
    return Report(html)


def _figures(evidence: Evidence, as_of: AsOf) -> dict[str, dict[str, str]]:
    """Draw each figure on light and on dark, as data URLs."""
    test, predictions = evidence.test, evidence.predictions
    names = registry.by_name(test.origin.source).class_names
    maps, means = contents.class_maps(evidence.model, test), contents.mean_images(test)
    draw: dict[str, Callable[[figures.Theme], bytes]] = {
        "class_maps": partial(figures.class_maps, maps=maps, outlines=means, titles=names)
    }
    confidence, right = predictions.confidence, predictions.right
    if confidence is not None:
        draw["reliability"] = partial(figures.reliability, confidence=confidence, right=right)
        draw["confidences"] = partial(figures.confidences, confidence=confidence, right=right)
    past = contents.plotted_models((one.accuracy, one.outcome) for one in as_of.decisions[::-1])
    if past:
        draw["past_models"] = partial(figures.past_models, models=past)
    if as_of.leaderboard and (entries := as_of.leaderboard.entries[:SHOWN_VARIANTS]):
        draw["variants"] = partial(figures.variants, entries=entries)
    themes = {"light": figures.LIGHT, "dark": figures.DARK}
    return {
        name: {mode: contents.data_url(drawn(theme)) for mode, theme in themes.items()}
        for name, drawn in draw.items()
    }
