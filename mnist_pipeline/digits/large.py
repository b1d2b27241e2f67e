"""Epochs over digits that are too many for memory: a chunk's whitened features at a time.

They are made once and kept in a scratch file, or, where they are distorted or too many for that,
made anew in each epoch.
"""

import copy
import io
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.batches import in_batches
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.pixels import CHUNK
from mnist_pipeline.digits.progress import NowAndThen, Report
from mnist_pipeline.digits.whitening import Whitening
from mnist_pipeline.params import ModelParams

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

SCRATCH_BYTES = 8 << 30
"""Most that a scratch file takes, 8 GiB: features of four million digits of the preset `fast`."""

Batch: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]
"""Whitened features and labels of some digits."""


def large_epochs(
    pipeline: "Pipeline",
    whitening: Whitening,
    params: ModelParams,
    fitted: Digits,
    report: Report,
    most_scratch: int = SCRATCH_BYTES,
    size: int = CHUNK,
) -> Iterator[Iterator[Batch]]:
    """Yield epochs without end: chunks of digits, in another order each time.

    The rows of a chunk are those of the file, shuffled when it was written; `SGDClassifier`
    shuffles them again. Kept or made anew, features are the same to the bit.

    Parameters
    ----------
    pipeline : Pipeline
        Its steps before the classifier are fitted.
    whitening, params, fitted, report
        As `fit_by_epoch` has them.
    most_scratch : int
        Bytes of features beyond which they are made anew in each epoch.
    size : int
        Rows of a chunk.

    Raises
    ------
    FitError
        The temporary folder has no room for the scratch file.
    """
    rng = np.random.default_rng(params.random_state)
    starts = np.arange(0, len(fitted), size)
    distorts = bool(params.rotation or params.zoom or params.shift)
    made = _distorted(pipeline, whitening, params, rng) if distorts else _plain(pipeline, whitening)
    width = 1 + whitening.matrix.shape[1]
    keeps = not distorts and 4 * width * len(fitted) <= most_scratch

    def epoch(kept: io.BufferedRandom | None) -> Iterator[Batch]:
        say, done = NowAndThen(report), 0
        for start in rng.permutation(starts):
            part = slice(start, min(start + size, len(fitted)))
            if kept:
                X = _read(kept, start, (part.stop - start, width))
            else:
                X = made(fitted.pixels[part])
            yield X, fitted.labels[part]
            done += len(X)
            say(f"{done:,} of {len(fitted):,} digits of this epoch")

    if not keeps:
        while True:
            yield epoch(None)
    # it has no name: it goes with this process, however that ends
    with tempfile.TemporaryFile(prefix="mnist-pipeline-") as scratch:
        say = NowAndThen(report)
        for start in starts:
            X = made(fitted.pixels[start : start + size])
            try:
                scratch.write(X.data)
                scratch.flush()
            except OSError as error:
                raise FitError(
                    f"no room for {4 * width * len(fitted) / 1e9:.1f} GB of features in "
                    f"{tempfile.gettempdir()}: {error.strerror}. Make room, or point TMPDIR to "
                    "where there is some."
                ) from error
            say(f"features of {start:,} of {len(fitted):,} digits")
        report(f"all features are kept: {scratch.tell() / 1e9:.1f} GB in {tempfile.gettempdir()}")
        while True:
            yield epoch(scratch)


def whitened(
    features: "Pipeline", whitening: Whitening
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]:
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


Made: TypeAlias = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def _plain(pipeline: "Pipeline", whitening: Whitening) -> Made:
    of_images = whitened(pipeline[:-1], whitening)
    return lambda pixels: in_batches(of_images, pixels)


def _distorted(
    pipeline: "Pipeline", whitening: Whitening, params: ModelParams, rng: np.random.Generator
) -> Made:
    from mnist_pipeline.digits.augmentation import draw_distortions
    from mnist_pipeline.digits.deskewing import Distortion, deskew

    of_upright = whitened(pipeline[1:-1], whitening)

    def made(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        drawn = draw_distortions(
            rng, len(pixels), rotation=params.rotation, zoom=params.zoom, shift=params.shift
        )

        def seen(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            one = Distortion(drawn.matrix[places], drawn.shift[places])
            return of_upright(deskew(pixels[places], distortion=one))

        return in_batches(seen, np.arange(len(pixels)))

    return made


def _read(file: io.BufferedRandom, start: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    found = np.empty(shape, np.float32)
    left = found.data.cast("B")
    file.seek(4 * int(start) * shape[1])
    while left:
        count = file.readinto(left)
        if not count:
            raise FitError(f"the scratch file in {tempfile.gettempdir()} lost what was written")
        left = left[count:]
    return found
