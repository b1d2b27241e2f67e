"""The classifier: a scikit-learn pipeline ending in `SGDClassifier`, built and fitted."""

import contextlib
import io
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.dataset import Digits, Origin
from mnist_pipeline.digits.digests import content_digest
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.errors import FitError, FormatError
from mnist_pipeline.params import ModelParams

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Report = Callable[[str], None]
"""Called with a sentence about the work so far."""

_REPORT_SECONDS = 5.0
_BATCH = 8192


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline, the split that it was fitted on and the params it was built from."""

    pipeline: "Pipeline"
    origin: Origin
    params: dict[str, Any]

    @cached_property
    def data_version(self) -> str:
        """Digest of the fitted arrays, the params and the split."""
        sgd = self.pipeline[-1]
        # the preset is only a name for the other params
        params = {key: value for key, value in self.params.items() if key != "preset"}
        return content_digest(sgd.coef_, sgd.intercept_, sgd.classes_, params, asdict(self.origin))

    def scores(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """Return `decision_function` of images, shape (n, 784), as an array of shape (n, 10).

        The matrix product is in float64, on one thread and a few thousand images at a time: the
        number of threads, and which instructions the processor has, would show in the last bits of
        one in float32.
        """
        from threadpoolctl import threadpool_limits

        features = self.pipeline[:-1].transform if len(self.pipeline) > 1 else np.asarray
        with threadpool_limits(limits=1):
            parts = [
                self.pipeline[-1].decision_function(
                    features(pixels[start : start + _BATCH]).astype(np.float64)
                )
                for start in range(0, len(pixels), _BATCH)
            ]
        return np.concatenate(parts)


def build(params: ModelParams) -> "Pipeline":
    """Return the unfitted pipeline: the features that `params` names, then `SGDClassifier`."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    from mnist_pipeline.digits.features import PixelScaler

    sgd = SGDClassifier(**params.model_dump(exclude={"preset", "features"}))
    return make_pipeline(*([PixelScaler()] if params.features == "scaled" else []), sgd)


def fit(params: ModelParams, train: Digits, report: Report = lambda text: None) -> TrainedModel:
    """Fit on all rows of `train`, one binary classifier a class, over all cores.

    The result does not depend on the number of cores: each class has a seed of its own.

    Raises
    ------
    FormatError
        The digits do not show all ten classes.
    FitError
        The params lead the fit out of the numbers.
    """
    from joblib import parallel_config
    from sklearn.exceptions import ConvergenceWarning

    classes = np.unique(train.labels)
    if len(classes) != CLASSES:
        raise FormatError(f"the training digits show only {classes.tolist()}: all ten are needed")
    pipeline = build(params)
    last = pipeline.steps[-1][0]
    pipeline.set_params(**{f"{last}__verbose": 1})
    with (
        parallel_config(backend="threading", n_jobs=-1),
        contextlib.redirect_stdout(_EpochCounter(report)),
        # joblib repeats there what the epochs say already
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        # said below: scikit-learn's own threads lose recorded warnings now and then
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            pipeline.fit(train.pixels, train.labels)
        except (ArithmeticError, ValueError) as error:
            raise FitError(f"SGDClassifier cannot fit with these params: {error}") from error
    if pipeline[-1].n_iter_ >= params.max_iter:
        report(f"warning: not converged after {params.max_iter} epochs: raise max_iter or tol")
    pipeline.set_params(**{f"{last}__verbose": 0})
    return TrainedModel(pipeline, train.origin, params.model_dump())


class _EpochCounter(io.TextIOBase):
    """Takes what a verbose `SGDClassifier` prints, and reports now and then how far it is."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._epochs = self._converged = 0
        self._next = time.monotonic() + _REPORT_SECONDS

    def write(self, text: str) -> int:
        with self._lock:
            self._epochs += text.count("-- Epoch")
            self._converged += text.count("Convergence after")
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _REPORT_SECONDS
                self._report(
                    f"{self._converged} of {CLASSES} classes converged, "
                    f"{self._epochs} epochs so far"
                )
        return len(text)
