"""The fit by epoch: `SGDClassifier.partial_fit` on whitened features.

Features that vary together make a long narrow valley of the loss, which gradient descent crosses
in many small steps. Rotated to their principal components and scaled to like variance they do not
(Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998, sec. 4.3). A
linear classifier fitted in these coordinates is one in the old coordinates too.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import CHUNK, slices, stacked
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.data.validation import Parts
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import Progress, Throttled

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

DISTORTED = 4096
"""Distorted digits at a time, where the source is in memory: their features are never all there."""

SCRATCH_BYTES = 8 << 30
"""Most that kept features take, 8 GiB: those of four million digits of the preset `fast`."""

Features: TypeAlias = npt.NDArray[np.float32]
"""Of shape (n, k)."""


@dataclass(frozen=True)
class Whitening:
    """An affine map of features, k numbers, to a constant 1 and the whitened features.

    The constant is the intercept: `SGDClassifier` confuses averaged intercepts with plain ones
    from one call of `partial_fit` to the next (scikit-learn 1.9, `_fit_multiclass`).

    `mean` is float32 of shape (k,), `matrix` of (k, components): as many components as features, or
    as there were rows if those were fewer; scaled so that whitened features have a mean squared
    norm of 1.
    """

    mean: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: npt.NDArray[np.number], smoothing: float) -> Self:
        """Find the map for features of shape (n, k).

        `smoothing` is added to the variance of each component: those that vary far less are left
        as small as they are.
        """
        from sklearn.decomposition import PCA

        pca = PCA(svd_solver="covariance_eigh").fit(features)
        variance = pca.explained_variance_
        scale = np.sqrt((variance + smoothing) * (variance / (variance + smoothing)).sum())
        matrix = pca.components_.T / scale
        return cls(pca.mean_.astype(np.float32), np.ascontiguousarray(matrix, np.float32))

    def transform(self, features: npt.NDArray[np.number]) -> Features:
        """Return the constant and the whitened features, float32 of shape (n, 1 + components)."""
        return self.centred(features @ self.matrix)

    def centred(self, rotated: npt.NDArray[np.number]) -> Features:
        """Return `transform` of features that were multiplied with the matrix already."""
        whitened = np.empty((len(rotated), 1 + rotated.shape[1]), np.float32)
        whitened[:, 0] = 1.0
        np.subtract(rotated, self.mean @ self.matrix, out=whitened[:, 1:])
        return whitened

    def undo(
        self, coef: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Return coef_ and intercept_ that do on features what `coef` does on whitened ones.

        From shape (classes, 1 + components) to float32 (classes, k) and float64 (classes,).
        """
        back = coef[:, 1:].astype(np.float64) @ self.matrix.T.astype(np.float64)
        return back.astype(np.float32), coef[:, 0] - back @ self.mean


def fit_by_epoch(
    pipeline: "Pipeline", params: ModelParams, parts: Parts, progress: Progress
) -> list[float]:
    """Fit a pipeline, with `early_stopping` until the accuracy on held-out rows stays.

    The epoch with the best accuracy is kept, without `early_stopping` the last. Returned is the
    accuracy on the held-out rows after each epoch, nothing without held-out rows.
    """
    from sklearn.base import clone

    fitted, held_out = parts.fitted, parts.held_out
    classifier, some = pipeline[-1], params.n_whitening
    by_chunk = params.streamed or fitted.origin.is_large
    features = _fit_features(pipeline, fitted.pixels[:some] if by_chunk else fitted.pixels)
    whitening = Whitening.of(features[:some], params.whitening)
    progress(f"{features.shape[1]:,} features are ready")
    kept = None if by_chunk else in_batches(whitening.transform, features)
    del features
    validation = np.empty((0, 0), np.float32)
    if held_out:
        validation = in_batches(_whitened(pipeline[:-1], whitening), held_out.pixels)
    # as many rows as those epochs have: SGDClassifier counts in rows
    averaged = params.average and 1 + params.average_after * len(fitted)
    sgd = clone(classifier).set_params(fit_intercept=False, average=averaged)
    accuracies: list[float] = []
    best, best_epoch = np.empty(0), 0
    epochs = Epochs(pipeline, whitening, params, fitted, progress, kept)
    for epoch in range(1, params.max_iter + 1):
        start = time.perf_counter()
        for X, labels in epochs.batches():
            # another order each time
            sgd.set_params(random_state=(params.random_state + epoch) % 2**32)
            sgd.partial_fit(X, labels, classes=np.arange(CLASSES, dtype=np.uint8))
        found = ""
        if held_out:
            accuracies.append(float((sgd.predict(validation) == held_out.labels).mean()))
            found = f"validation accuracy {accuracies[-1]:.4f} "
        progress(f"epoch {epoch}: {found}({time.perf_counter() - start:.1f} s)")
        if not params.early_stopping or accuracies[-1] > max([-1.0, *accuracies[:-1]]):
            best, best_epoch = sgd.coef_.copy(), epoch
        elif epoch - best_epoch >= params.n_iter_no_change:
            break
    classifier.n_iter_, classifier.classes_ = epoch, sgd.classes_
    classifier.coef_, classifier.intercept_ = whitening.undo(best)
    classifier.n_features_in_ = classifier.coef_.shape[1]
    return accuracies


def _fit_features(pipeline: "Pipeline", pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.number]:
    """Fit the steps before the classifier; return what they make of these images."""
    from sklearn.pipeline import make_pipeline
    from sklearn.utils import get_tags

    steps = [step for _, step in pipeline.steps[:-1]]
    stateless = [step for step in steps if not get_tags(step).requires_fit]
    features: npt.NDArray[np.number] = pixels
    if stateless:  # together, so that images between them are never all in memory
        features = in_batches(make_pipeline(*stateless).fit(pixels[:1]).transform, pixels)
    for step in steps[len(stateless) :]:
        features = in_batches(step.fit(features).transform, features)
    return features


def _whitened(
    features: "Pipeline", whitening: Whitening
) -> Callable[[npt.NDArray[np.number]], Features]:
    """Return the map from images to whitened features, for some rows at a time."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    steps = [step for _, step in features.steps]
    if not steps:
        return whitening.transform
    *before, last = steps
    if not isinstance(last, Nystroem):
        return lambda images: whitening.transform(features.transform(images))
    # its product with a matrix and that of the whitening are one
    rotated = copy.copy(last)
    rotated.normalization_ = whitening.matrix.T @ last.normalization_
    all_of_it = make_pipeline(*before, rotated)
    return lambda images: whitening.centred(all_of_it.transform(images))


class Epochs:
    """The rows to fit as whitened features with their labels, one epoch after another.

    A source in memory is one chunk, whose features are kept; or, where they are distorted or many,
    computed again in each epoch, shuffled and in parts. A large source is many chunks, in another
    order each epoch, whose rows `SGDClassifier` shuffles. Their features are kept in a scratch
    file; or, where they are distorted or more than `SCRATCH_BYTES`, computed again, the same to the
    bit.

    The pipeline's steps before the classifier are fitted; `kept`, of shape (n, 1 + components), are
    whitened features of all rows of a source in memory, if they are to be kept.

    Raises StoreError where the temporary folder has no room for the features.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        whitening: Whitening,
        params: ModelParams,
        fitted: Digits,
        progress: Progress,
        kept: Features | None = None,
    ) -> None:
        count, self._large = len(fitted), fitted.origin.is_large
        self._params, self._fitted, self._progress = params, fitted, progress
        self._rng = np.random.default_rng(params.random_state)
        self._chunks = list(slices(count, CHUNK if self._large else count))
        self._distorts = params.distorts if self._large else kept is None
        self._features = _whitened(pipeline[1 if self._distorts else 0 : -1], whitening)
        self._kept = kept
        size = 4 * count * (1 + whitening.matrix.shape[1])
        if self._large and not self._distorts and size <= SCRATCH_BYTES:
            parts = (in_batches(self._features, fitted.pixels[rows]) for rows in slices(count))
            self._kept = stacked(parts, count, large=True, what="features", progress=progress)
            progress(f"all features are kept: {size / 1e9:.1f} GB in a scratch file")

    def batches(self) -> Iterator[tuple[Features, npt.NDArray[np.uint8]]]:
        """Yield the next epoch, some rows at a time: whitened features and labels."""
        progress, done = Throttled(self._progress), 0
        for chunk in self._rng.permutation(len(self._chunks)):
            for X, labels in self._of_chunk(self._chunks[chunk]):
                yield X, labels
                done += len(labels)
                progress(f"{done:,} of {len(self._fitted):,} digits of this epoch")

    def _of_chunk(self, rows: slice) -> Iterator[tuple[Features, npt.NDArray[np.uint8]]]:
        digits = self._fitted[rows]
        if self._distorts:
            yield from self._distorted(digits)
        elif self._kept is not None:
            yield self._kept[rows], digits.labels
        else:
            yield in_batches(self._features, digits.pixels), digits.labels

    def _distorted(self, digits: Digits) -> Iterator[tuple[Features, npt.NDArray[np.uint8]]]:
        from mnist_pipeline.digits.features.transformers import Distortion, deskew

        count, by, width = len(digits), self._params, width_of(digits.pixels)
        order = np.arange(count) if self._large else self._rng.permutation(count)
        drawn = Distortion.draw(
            self._rng, count, rotation=by.rotation, zoom=by.zoom, shift=by.shift
        )

        def features(places: npt.NDArray[np.int64]) -> Features:
            some = Distortion(drawn.matrix[places], drawn.shift[places])
            return self._features(
                deskew(digits.pixels[order[places]], width=width, distortion=some)
            )

        for rows in slices(count, CHUNK if self._large else DISTORTED):
            places = np.arange(rows.start, rows.stop)
            yield in_batches(features, places), digits.labels[order[places]]
