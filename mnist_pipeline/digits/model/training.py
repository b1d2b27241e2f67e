"""Training: how the classifier's pipeline is fitted, by its own rule or epoch by epoch."""

import contextlib
import io
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import IN_MEMORY
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.data.validation import Parts, Validated, digest_of_rows
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.model import calibration
from mnist_pipeline.digits.model.epochs import fit_by_epoch
from mnist_pipeline.digits.model.pipeline import TrainedModel, build
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import NowAndThen, Report
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def fit(params: ModelParams, parts: Parts, report: Report = lambda text: None) -> TrainedModel:
    """Fit one binary classifier a class, over all cores, and calibrate on what is held out.

    The result does not depend on the number of cores: each class has a seed of its own.

    Raises
    ------
    FormatError
        The digits do not show all ten classes.
    FitError
        The params lead the fit out of the numbers, or ask for a fit that needs all rows in memory
        where those are too many.
    StoreError
        The temporary folder has no room for the features of a large source.
    """
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    classes = np.unique(parts.fitted.labels)
    if len(classes) != CLASSES:
        raise FormatError(f"the training digits show only {classes.tolist()}: all ten are needed")
    if parts.fitted.origin.is_large and not params.by_epoch:
        raise FitError(
            f"preset {params.preset} fits by SGDClassifier's own rule, which needs all rows in "
            f"memory: {len(parts.fitted):,} are too many (a source may have {IN_MEMORY:,}). Use "
            "preset fast or accurate, or set early_stopping = true: a fit by epoch reads a part "
            "of the rows at a time"
        )
    pipeline = build(params, width_of(parts.fitted.pixels))
    accuracies: list[float] = []
    with parallel_config(backend="threading", n_jobs=-1), threadpool_limits(limits=1):
        try:
            if params.by_epoch:
                accuracies = fit_by_epoch(pipeline, params, parts, report)
            else:
                _fit_by_its_own_rule(pipeline, parts.fitted, report)
        except (ArithmeticError, ValueError) as error:
            raise FitError(f"SGDClassifier cannot fit with these params: {error}") from error
    model = TrainedModel(
        parts.fitted.origin,
        parts.train_version,
        params.model_dump(mode="json"),
        digest_of_rows(parts.fitted.row_id),
        None,
        pipeline,
    )
    return replace(model, validated=_validated(model, parts.held_out, accuracies))


def _validated(
    model: TrainedModel, held_out: Digits | None, accuracies: list[float]
) -> Validated | None:
    if held_out is None:
        return None
    scores = model.scores(held_out.pixels)
    prediction = scores.argmax(axis=1).astype(np.uint8)
    return Validated(
        held_out.row_id,
        prediction,
        float((prediction == held_out.labels).mean()),
        accuracies,
        calibration.temperature(scores, held_out.labels),
    )


def _fit_by_its_own_rule(pipeline: "Pipeline", fitted: Digits, report: Report) -> None:
    """Fit until `SGDClassifier` finds its own loss converged."""
    from sklearn.exceptions import ConvergenceWarning

    sgd = pipeline[-1]
    sgd.set_params(verbose=1)
    with (
        contextlib.redirect_stdout(_EpochCounter(report)),
        # joblib repeats there what the epochs say already
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        # said below: scikit-learn's own threads lose recorded warnings now and then
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(fitted.pixels, fitted.labels)
    if sgd.n_iter_ >= sgd.max_iter:
        report(f"warning: not converged after {sgd.max_iter} epochs: raise max_iter or tol")
    sgd.set_params(verbose=0)


class _EpochCounter(io.TextIOBase):
    """Takes what a verbose `SGDClassifier` prints, and reports now and then how far it is."""

    def __init__(self, report: Report) -> None:
        self._say = NowAndThen(report)
        self._lock = threading.Lock()
        self._epochs = self._converged = 0

    def write(self, text: str) -> int:
        with self._lock:
            self._epochs += text.count("-- Epoch")
            self._converged += text.count("Convergence after")
            self._say(
                f"{self._converged} of {CLASSES} classes converged, {self._epochs} epochs so far"
            )
        return len(text)
