"""The fit by epoch: on whitened features, of the digits as they are or distorted anew.

Of a source that is too large for memory a chunk of features is in memory at a time: they are kept
in a scratch file, or, where they are distorted or too many for that, made anew in each epoch.
"""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.pixels import CHUNK, slices, stacked
from mnist_pipeline.digits.data.shape import CLASSES, width_of
from mnist_pipeline.digits.data.validation import Parts
from mnist_pipeline.digits.features.batches import in_batches
from mnist_pipeline.digits.features.whitening import Whitening
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import NowAndThen, Report

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

DISTORTED = 4096
"""Distorted digits at a time, where the source is in memory: their features are never all there."""

SCRATCH_BYTES = 8 << 30
"""Most that kept features take, 8 GiB: those of four million digits of the preset `fast`."""

Batch: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]
"""Whitened features and labels of some digits."""


def fit_by_epoch(
    pipeline: "Pipeline", params: ModelParams, parts: Parts, report: Report
) -> list[float]:
    """Fit whitened features, with `early_stopping` until the accuracy on held-out rows stays.

    The epoch with the best accuracy is kept, without `early_stopping` the last.

    Returns
    -------
    The accuracy on the held-out rows after each epoch; empty if there are none.
    """
    from sklearn.base import clone

    fitted, held_out = parts.fitted, parts.held_out
    shipped, some = pipeline[-1], params.n_whitening
    by_chunk = params.streamed or fitted.origin.is_large
    features = _fit_features(pipeline, fitted.pixels[:some] if by_chunk else fitted.pixels)
    whitening = Whitening.of(features[:some], params.whitening)
    report(f"{features.shape[1]:,} features are ready")
    kept = None if by_chunk else in_batches(whitening.transform, features)
    del features
    seen = None
    if held_out:
        seen = in_batches(whitened(pipeline[:-1], whitening), held_out.pixels)
    # as many rows as those epochs have: SGDClassifier counts in rows
    averaged = params.average and 1 + params.average_after * len(fitted)
    sgd = clone(shipped).set_params(fit_intercept=False, average=averaged)
    accuracies: list[float] = []
    best, best_epoch = np.empty(0), 0
    every = epochs(pipeline, whitening, params, fitted, report, kept)
    for epoch, batches in zip(range(1, params.max_iter + 1), every, strict=False):
        start = time.perf_counter()
        for X, labels in batches:
            # another order each time
            sgd.set_params(random_state=(params.random_state + epoch) % 2**32)
            sgd.partial_fit(X, labels, classes=np.arange(CLASSES, dtype=np.uint8))
        found = ""
        if held_out and seen is not None:
            accuracies.append(float((sgd.predict(seen) == held_out.labels).mean()))
            found = f"validation accuracy {accuracies[-1]:.4f} "
        report(f"epoch {epoch}: {found}({time.perf_counter() - start:.1f} s)")
        if not params.early_stopping or accuracies[-1] > max([-1.0, *accuracies[:-1]]):
            best, best_epoch = sgd.coef_.copy(), epoch
        elif epoch - best_epoch >= params.n_iter_no_change:
            break
    shipped.n_iter_ = epoch
    shipped.classes_ = sgd.classes_
    shipped.coef_, shipped.intercept_ = whitening.undo(best)
    shipped.n_features_in_ = shipped.coef_.shape[1]
    return accuracies


def _fit_features(pipeline: "Pipeline", pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Fit the steps before the classifier; return what they make of these images."""
    from sklearn.utils import get_tags

    steps = [step for _, step in pipeline.steps[:-1]]
    stateless = len(list(itertools.takewhile(lambda step: not get_tags(step).requires_fit, steps)))
    found: Any = pixels
    if stateless:  # together, so that images between them are never all in memory
        found = in_batches(pipeline[:stateless].fit(pixels[:1]).transform, pixels)
    for step in steps[stateless:]:
        found = in_batches(step.fit(found).transform, found)
    return np.asarray(found)


def epochs(
    pipeline: "Pipeline",
    whitening: Whitening,
    params: ModelParams,
    fitted: Digits,
    report: Report,
    kept: npt.NDArray[np.float32] | None = None,
    most_scratch: int = SCRATCH_BYTES,
    size: int = CHUNK,
) -> Iterator[Iterator[Batch]]:
    """Yield epochs without end.

    All rows of a source in memory are one chunk, at once or, where they are distorted, shuffled
    and in parts. Those of a large source are chunks in another order each time, whose rows
    `SGDClassifier` shuffles. Kept or made anew, features are the same to the bit.

    Parameters
    ----------
    pipeline : Pipeline
        Its steps before the classifier are fitted.
    whitening, params, fitted, report
        As `fit_by_epoch` has them.
    kept : array, optional
        Whitened features of all rows.
    most_scratch : int
        Bytes of features of a large source beyond which they are made anew in each epoch.
    size : int
        Rows of a chunk of a large source.

    Raises
    ------
    StoreError
        The temporary folder has no room for the features.
    """
    rng = np.random.default_rng(params.random_state)
    large, count = fitted.origin.is_large, len(fitted)
    chunks = list(slices(count, size if large else count))
    distorts = params.distorts if large else kept is None
    made = whitened(pipeline[1:-1] if distorts else pipeline[:-1], whitening)
    if large and not distorts and 4 * count * (1 + whitening.matrix.shape[1]) <= most_scratch:
        parts = (in_batches(made, fitted.pixels[rows]) for rows in slices(count))
        kept = stacked(parts, count, large=True, what="features", report=report)
        report(f"all features are kept: {kept.nbytes / 1e9:.1f} GB in a scratch file")

    def batches(rows: slice) -> Iterator[Batch]:
        if kept is not None:
            yield kept[rows], fitted.labels[rows]
        elif not distorts:
            yield in_batches(made, fitted.pixels[rows]), fitted.labels[rows]
        else:
            part = fitted[rows]
            order = np.arange(len(part)) if large else rng.permutation(len(part))
            yield from _distorted(part, order, made, params, rng)

    def epoch() -> Iterator[Batch]:
        say, done = NowAndThen(report), 0
        for chunk in rng.permutation(len(chunks)):
            for X, labels in batches(chunks[chunk]):
                yield X, labels
                done += len(labels)
                say(f"{done:,} of {count:,} digits of this epoch")

    while True:
        yield epoch()


def _distorted(
    digits: Digits,
    order: npt.NDArray[np.int64],
    of_upright: "Transform",
    params: ModelParams,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    from mnist_pipeline.digits.features.augmentation import draw_distortions
    from mnist_pipeline.digits.features.deskew import Distortion, deskew

    drawn = draw_distortions(
        rng, len(order), rotation=params.rotation, zoom=params.zoom, shift=params.shift
    )

    width = width_of(digits.pixels)

    def seen(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        one = Distortion(drawn.matrix[places], drawn.shift[places])
        return of_upright(deskew(digits.pixels[order[places]], width=width, distortion=one))

    for rows in slices(len(order), CHUNK if digits.origin.is_large else DISTORTED):
        places = np.arange(rows.start, rows.stop)
        yield in_batches(seen, places), digits.labels[order[places]]


Transform: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


def whitened(features: "Pipeline", whitening: Whitening) -> Transform:
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
