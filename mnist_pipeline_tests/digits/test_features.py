"""What the classifier sees of a digit: the transformers, and the coordinates it is fitted in."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from mnist_pipeline.digits.features import batches
from mnist_pipeline.digits.features.transformers import (
    Deskewer,
    Distortion,
    OrientedGradients,
    PixelScaler,
    deskew,
)
from mnist_pipeline.digits.model.epochs import Whitening
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Digits of all classes, more than a batch."""
    return np.asarray(decode(sample.read()).pixels[::4])


# images of one column are any number of pixels high, which the checks ask for
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [PixelScaler(), Deskewer(width=1), OrientedGradients(width=1)]
)
def test_the_transformers_are_scikit_learn_estimators(estimator: object, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("transformer", "width"),
    [(PixelScaler(), 784), (Deskewer(), 784), (OrientedGradients(), (49 + 16) * 8)],
)
def test_features_are_float32_and_of_the_width_that_fit_saw(
    transformer: Any, width: int, pixels: Pixels
) -> None:
    features = transformer.fit_transform(pixels)
    assert features.dtype == np.float32
    assert features.shape == (len(pixels), width)
    assert repr(clone(transformer)) == repr(transformer)
    with pytest.raises(ValueError, match=r"has 783 features, but .* is expecting 784"):
        transformer.transform(pixels[:, 1:])


@pytest.mark.parametrize("transformer", [Deskewer(), OrientedGradients()])
def test_pixels_that_make_no_rows_are_refused(transformer: Any, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="783 pixels do not make rows of width=28"):
        transformer.fit(pixels[:, 1:])


def test_the_scaler_divides_by_255_in_float32(pixels: Pixels) -> None:
    scaled = PixelScaler().fit_transform(pixels)
    np.testing.assert_array_equal(scaled, pixels / np.float32(255))


def test_a_slanted_and_shifted_stroke_comes_out_upright_in_the_middle() -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    for row in range(6, 20):
        image[0, row, 4 + row // 2] = 255
    upright = Deskewer().fit_transform(image.reshape(1, -1)).reshape(28, 28)
    rows, columns = np.indices((28, 28))
    mass = upright.sum()
    assert (rows * upright).sum() / mass == pytest.approx(13.5, abs=0.05)
    assert (columns * upright).sum() / mass == pytest.approx(13.5, abs=0.05)
    spread = np.sqrt((columns**2 * upright).sum() / mass - 13.5**2)
    assert spread < 0.8, "a stroke straight up is about a pixel wide"
    assert np.std(np.nonzero(image[0])[1]) >= 2


def test_a_blank_image_stays_blank_and_a_dot_stays_a_dot() -> None:
    images = np.zeros((2, 784), np.uint8)
    images[1, 28 * 3 + 5] = 255
    upright = Deskewer().fit_transform(images)
    assert np.isfinite(upright).all()
    assert upright[0].max() == 0
    assert upright[1].sum() == pytest.approx(1.0, abs=1e-6)
    assert np.isfinite(OrientedGradients().fit_transform(upright)).all()


def test_an_edge_shows_in_the_orientation_across_it_where_it_is() -> None:
    image = np.zeros((1, 28, 28), np.float32)
    image[0, 8:20, 14:] = 1.0  # ink to the right: darker rightwards, 0 degrees
    gradients = OrientedGradients(orientations=8, cells=[4])
    # by row and column of the cell, and direction in eighths of the circle
    features = gradients.fit_transform(image.reshape(1, -1)).reshape(4, 4, 8)
    assert features[1, 1].argmax() == 0
    assert features[1, 1, 4] < 1e-6
    assert features[1, 0, 0] == features[1, 3, 0] == 0


def test_gradients_hardly_depend_on_how_dark_the_ink_is(pixels: Pixels) -> None:
    gradients = OrientedGradients().fit(pixels)
    dark = gradients.transform(pixels[:100] / np.float32(255))
    pale = gradients.transform(pixels[:100] / np.float32(510))
    assert np.abs(dark - pale).mean() < 0.1 * dark.mean()


def test_features_are_the_same_to_the_bit_for_any_number_of_threads_and_any_company(
    pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in (1, 3):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(threads))
        with threadpool_limits(limits=threads):
            upright = Deskewer().fit_transform(pixels)
            found.append(OrientedGradients().fit_transform(upright))
    np.testing.assert_array_equal(found[0], found[1])


def test_memory_does_not_grow_with_intermediate_results(pixels: Pixels) -> None:
    seen: list[int] = []

    def watched(rows: Pixels) -> npt.NDArray[np.float32]:
        seen.append(len(rows))
        return batches.in_batches(lambda part: part[:, :3].astype(np.float32), rows)

    result = batches.in_batches(watched, pixels)
    np.testing.assert_array_equal(result, pixels[:, :3])
    assert max(seen) == batches.BATCH
    assert sum(seen) == len(pixels)


def test_distortions_are_small_and_follow_the_seed() -> None:
    one, again, other = (
        Distortion.draw(np.random.default_rng(seed), 1000, rotation=10, zoom=0.08, shift=0.8)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.matrix, again.matrix)
    assert not np.array_equal(one.matrix, other.matrix)
    assert np.abs(one.shift).max() <= 0.8
    area = np.linalg.det(one.matrix)
    assert 0.92**2 <= area.min() < area.max() <= 1.08**2
    turns = np.rad2deg(np.arctan2(one.matrix[:, 1, 0], one.matrix[:, 0, 0]))
    assert 8 < np.abs(turns).max() <= 10


def test_a_distortion_that_changes_nothing_changes_nothing(pixels: Pixels) -> None:
    still = Distortion(np.tile(np.eye(2), (9, 1, 1)), np.zeros((9, 2)))
    moved = Distortion(still.matrix, np.tile([0.0, 2.0], (9, 1)))
    upright = deskew(pixels[:9])
    np.testing.assert_allclose(deskew(pixels[:9], distortion=still), upright, atol=1e-6)
    shifted = deskew(pixels[:9], distortion=moved).reshape(9, 28, 28)
    inside = shifted[:, :, 2:], upright.reshape(9, 28, 28)[:, :, :-2]
    np.testing.assert_allclose(*inside, atol=1e-4)


def test_a_classifier_of_whitened_features_is_one_of_features_too(pixels: Pixels) -> None:
    features = OrientedGradients(cells=[3]).fit_transform(pixels / np.float32(255))
    whitening = Whitening.of(features, smoothing=1e-3)
    whitened = whitening.transform(features)
    assert whitened.dtype == np.float32
    np.testing.assert_array_equal(whitened[:, 0], 1)
    spread = np.cov(whitened[:, 1:], rowvar=False)
    off_diagonal = spread - np.diag(np.diag(spread))
    assert np.abs(off_diagonal).max() < 1e-3 * np.trace(spread)
    assert (whitened[:, 1:] ** 2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-3)

    labels = np.arange(len(pixels)) % 3
    fitted = SGDClassifier(fit_intercept=False, random_state=0).fit(whitened, labels)
    coef, intercept = whitening.undo(fitted.coef_)
    np.testing.assert_allclose(
        features @ coef.T + intercept, fitted.decision_function(whitened), rtol=1e-3, atol=1e-3
    )
