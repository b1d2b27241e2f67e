"""The classifier: a scikit-learn pipeline ending in `SGDClassifier`, and what it computes."""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.validation import Fitted
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.model.typicality import Reference
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.incremental.digest import content_digest

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

SGD_PARAMS = {
    "random_state",
    "loss",
    "penalty",
    "alpha",
    "l1_ratio",
    "max_iter",
    "tol",
    "learning_rate",
    "eta0",
    "average",
    "n_iter_no_change",
}
"""Those of `ModelParams` that are arguments of `SGDClassifier`."""


@dataclass(frozen=True)
class TrainedModel(Fitted):
    """A fitted pipeline, the facts about it, and digits to compare images with.

    Without a validation part there is no reference.
    """

    pipeline: "Pipeline"
    reference: Reference | None = None

    @cached_property
    def data_version(self) -> str:
        """Digest of the fitted arrays, the validation, the params and the training digits' version.

        The minor version of scikit-learn counts: another may read the same arrays otherwise.
        """
        # the preset is only a name for the other params
        params = {key: value for key, value in self.params.items() if key != "preset"}
        minor = ".".join(version("scikit-learn").split(".")[:2])
        parts: list[Any] = [params, self.origin.facts, self.rows, f"scikit-learn {minor}"]
        parts.append(self.train_version)
        for name, step in self.pipeline.steps:
            for attribute, value in sorted(vars(step).items()):
                if attribute.endswith("_") and isinstance(value, np.ndarray):
                    parts += [f"{name}.{attribute}", value]
        if self.validated:
            by = self.validated
            facts = {"accuracies": by.accuracies, "temperature": by.temperature}
            parts += [by.row_id, by.prediction, facts]
        if self.reference:
            parts += [getattr(self.reference, field.name) for field in fields(Reference)]
        return content_digest(*parts)

    @property
    def width(self) -> int:
        """Pixels a side of the images that it was fitted on."""
        return math.isqrt(self.pipeline[0].n_features_in_)

    def scores(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return `decision_function` of images, shape (n, pixels), as an array of shape (n, 10).

        The last product is in float64, on one thread: the number of threads, and which instructions
        the processor has, would show in the last bits of one in float32.
        """
        return in_batches(self._scores, pixels)

    def _scores(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        features = self.pipeline[:-1].transform(pixels) if len(self.pipeline) > 1 else pixels
        scores: npt.NDArray[np.float64] = self.pipeline[-1].decision_function(
            features.astype(np.float64)
        )
        return scores


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return the probability of each class, float64 of shape (n, 10): softmax(scores / T)."""
    from scipy.special import softmax

    given: npt.NDArray[np.float64] = softmax(scores.astype(np.float64) / temperature, axis=1)
    return given


def build(params: ModelParams, width: int) -> "Pipeline":
    """Return the unfitted pipeline: the features that `params` names, then `SGDClassifier`.

    Raises FitError where images of `width` pixels a side have too few for the cells.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    from mnist_pipeline.digits.features.transformers import (
        Deskewer,
        OrientedGradients,
        PixelScaler,
    )

    if params.features in {"gradients", "kernel"} and max(params.cells) > width:
        raise FitError(
            f"cells = {list(params.cells)}, but images of {width} x {width} pixels have room for "
            f"{width} cells a side. Set fewer in [model] of the params file, as in cells = [6, 3]"
        )
    gradients = OrientedGradients(params.orientations, params.cells, width)
    kernel = Nystroem(
        gamma=params.gamma,
        n_components=params.n_components,
        random_state=params.random_state,
        n_jobs=1,
    )
    steps: dict[str, list[Any]] = {
        "raw": [],
        "scaled": [PixelScaler()],
        "gradients": [Deskewer(width), gradients],
        "kernel": [Deskewer(width), gradients, kernel],
    }
    return make_pipeline(
        *steps[params.features], SGDClassifier(**params.model_dump(include=SGD_PARAMS))
    )
