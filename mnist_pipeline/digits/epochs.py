"""The fit by epoch: on whitened features, of the digits as they are or distorted anew.

The epochs of what is too large for memory are in `large`.
"""

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.batches import in_batches
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.large import Batch, large_epochs, whitened
from mnist_pipeline.digits.pixels import LazyPixels
from mnist_pipeline.digits.progress import NowAndThen, Report
from mnist_pipeline.digits.shape import CLASSES
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.digits.whitening import Whitening
from mnist_pipeline.params import ModelParams

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CHUNK = 4096
"""Streamed digits at a time: their features are never all in memory."""


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
    large = isinstance(fitted.pixels, LazyPixels)
    by_chunk = params.streamed or large
    features = _fit_features(pipeline, fitted.pixels[:some] if by_chunk else fitted.pixels)
    whitening = Whitening.of(features[:some], params.whitening)
    report(f"{features.shape[1]:,} features are ready")
    epochs: Iterable[Iterable[Batch]]
    if large:
        epochs = large_epochs(pipeline, whitening, params, fitted, report)
    elif params.streamed:
        epochs = _streamed(pipeline, whitening, params, fitted, report)
    else:
        epochs = itertools.repeat([(in_batches(whitening.transform, features), fitted.labels)])
    del features
    seen = None
    if held_out:
        seen = in_batches(whitened(pipeline[:-1], whitening), held_out.pixels)
    # as many rows as those epochs have: SGDClassifier counts in rows
    averaged = params.average and 1 + params.average_after * len(fitted)
    sgd = clone(shipped).set_params(fit_intercept=False, average=averaged)
    accuracies: list[float] = []
    best, best_epoch = np.empty(0), 0
    for epoch, batches in zip(range(1, params.max_iter + 1), epochs, strict=False):
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


def _streamed(
    pipeline: "Pipeline",
    whitening: Whitening,
    params: ModelParams,
    fitted: Digits,
    report: Report,
) -> Iterator[Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]]:
    """Yield epochs without end: all digits in another order, distorted anew, a chunk at a time."""
    from mnist_pipeline.digits.augmentation import draw_distortions
    from mnist_pipeline.digits.deskewing import Distortion, deskew

    rng = np.random.default_rng(params.random_state)
    of_upright = whitened(pipeline[1:-1], whitening)

    def epoch() -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
        say = NowAndThen(report)
        order = rng.permutation(len(fitted))
        distortion = draw_distortions(
            rng, len(fitted), rotation=params.rotation, zoom=params.zoom, shift=params.shift
        )

        def seen(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            one = Distortion(distortion.matrix[places], distortion.shift[places])
            upright = deskew(fitted.pixels[order[places]], distortion=one)
            return of_upright(upright)

        for start in range(0, len(fitted), CHUNK):
            chunk = np.arange(start, min(start + CHUNK, len(fitted)))
            yield in_batches(seen, chunk), fitted.labels[order[chunk]]
            say(f"{chunk[-1] + 1:,} of {len(fitted):,} digits of this epoch")

    while True:
        yield epoch()
