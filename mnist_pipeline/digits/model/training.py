"""Training: the fit of a pipeline, and its calibration on the rows held out of it."""

import contextlib
import io
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import IN_MEMORY
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.data.validation import Parts, Validated, digest_of_rows
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.model.epochs import fit_by_epoch
from mnist_pipeline.digits.model.pipeline import TrainedModel, build, probabilities
from mnist_pipeline.digits.model.typicality import Reference
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import Progress, Throttled, silent
from mnist_pipeline.incremental.errors import FormatError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_BOUNDS = (-10.0, 10.0)
"""Of the logarithm of the temperature, for scores with a standard deviation of 1."""


def fit(params: ModelParams, parts: Parts, progress: Progress = silent) -> TrainedModel:
    """Fit one binary classifier a class, over all cores, and calibrate on what is held out.

    The result does not depend on the number of cores: each class has a seed of its own.

    Raises FormatError where the digits do not show all ten classes; FitError where the numbers of
    the fit overflow with these params, or these need all rows in memory and there are too many;
    StoreError where the temporary folder has no room for the features of a large source.
    """
    from joblib import parallel_config
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    fitted, held_out = parts.fitted, parts.held_out
    classes = np.unique(fitted.labels)
    if len(classes) != CLASSES:
        raise FormatError(f"the training digits show only {classes.tolist()}: all ten are needed")
    if fitted.origin.is_large and not params.by_epoch:
        raise FitError(
            f"preset {params.preset} fits by SGDClassifier's own rule, which needs all rows in "
            f"memory: {len(fitted):,} are too many (a source may have {IN_MEMORY:,}). Use "
            "preset fast or accurate, or set early_stopping = true: a fit by epoch reads a part "
            "of the rows at a time"
        )
    pipeline = build(params, width_of(fitted.pixels))
    accuracies: list[float] = []
    with (
        parallel_config(backend="threading", n_jobs=-1),
        threadpool_limits(limits=1),
        warnings.catch_warnings(),
    ):
        # scikit-learn's threads share one list of filters, and one can find it empty while another
        # sets it (scikit-learn issue 32631); they also lose recorded warnings now and then
        warnings.filterwarnings("ignore", r"`sklearn\.utils\.parallel\.delayed`", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as progress
        try:
            if params.by_epoch:
                accuracies = fit_by_epoch(pipeline, params, parts, progress)
            else:
                _fit_by_its_own_rule(pipeline, fitted, progress)
        except (ArithmeticError, ValueError) as error:
            raise FitError(f"SGDClassifier cannot fit with these params: {error}") from error
    rows, used = digest_of_rows(fitted.row_id), params.model_dump(mode="json")
    model = TrainedModel(fitted.origin, parts.train_version, used, rows, None, pipeline)
    if held_out is None:
        return model
    scores = model.scores(held_out.pixels)
    prediction = scores.argmax(axis=1).astype(np.uint8)
    accuracy = float((prediction == held_out.labels).mean())
    found = temperature(scores, held_out.labels)
    validated = Validated(held_out.row_id, prediction, accuracy, accuracies, found)
    reference = Reference.of(fitted.pixels, fitted.labels, held_out.pixels)
    return replace(model, validated=validated, reference=reference)


def temperature(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.uint8]) -> float:
    """Return what scores, of shape (n, 10), are divided by for probabilities of least log loss.

    Their order stays, so no prediction changes. They and the labels are of held-out digits (C. Guo
    et al., "On calibration of modern neural networks", ICML 2017, sec. 4.2). scikit-learn's
    `CalibratedClassifierCV` does the same from 1.8 on, but from scores that it computes itself, in
    float32, and it keeps the temperature private.
    """
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    spread = float(scores.std()) or 1.0

    def loss(log_temperature: float) -> float:
        given = probabilities(scores, spread * float(np.exp(log_temperature)))
        return float(log_loss(labels, given, labels=np.arange(scores.shape[1])))

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded")
    return spread * float(np.exp(found.x))


def _fit_by_its_own_rule(pipeline: "Pipeline", fitted: Digits, progress: Progress) -> None:
    """Fit until `SGDClassifier` finds its own loss converged."""
    sgd = pipeline[-1]
    sgd.set_params(verbose=1)
    with (
        contextlib.redirect_stdout(_EpochCounter(progress)),
        # joblib repeats there what the epochs print already
        contextlib.redirect_stderr(io.StringIO()),
    ):
        pipeline.fit(fitted.pixels, fitted.labels)
    if sgd.n_iter_ >= sgd.max_iter:
        progress(f"warning: not converged after {sgd.max_iter} epochs: raise max_iter or tol")
    sgd.set_params(verbose=0)


class _EpochCounter(io.TextIOBase):
    """Takes what a verbose `SGDClassifier` prints, and reports how many epochs it has done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = Throttled(progress)
        self._lock = threading.Lock()
        self._epochs = self._converged = 0

    def write(self, text: str) -> int:
        with self._lock:
            self._epochs += text.count("-- Epoch")
            self._converged += text.count("Convergence after")
            self._progress(
                f"{self._converged} of {CLASSES} classes converged, {self._epochs} epochs so far"
            )
        return len(text)
