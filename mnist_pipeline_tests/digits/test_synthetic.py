"""Digits without end: the same pixels for the same row, and no test digit's image to learn from."""

import dataclasses
import json

import numpy as np
import pytest
from joblib import parallel_config

from mnist_pipeline.config.settings import Settings
from mnist_pipeline.digits.data import checks, validation
from mnist_pipeline.digits.data.dataset import Digits, base_of
from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode, read
from mnist_pipeline.digits.sources.infinite import BASE, FILENAME, MOST, GeneratedTable, Recipe
from mnist_pipeline.digits.streaming.elastic import Deformation, corners_of
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError, SettingsError

TUTORIAL = {"test_size": 0.2, "random_state": 42}
ROWS = 12_000


@pytest.fixture(scope="module")
def table() -> DigitTable:
    return decode(Recipe(ROWS).archive())


@pytest.fixture(scope="module")
def drawn(table: DigitTable) -> Split:
    return split(table, **TUTORIAL)  # type: ignore[arg-type]


def test_rows_have_the_pixels_that_they_had_when_the_generator_got_its_number(
    table: DigitTable,
) -> None:
    """A change of these digests is another generator: raise its number with them."""
    rows = np.array([4999, 5000, 5001, 11_999])
    assert content_digest(table.images(rows)) == "82b409499db6747ec64abc39ee4121cf"
    assert content_digest(Recipe(ROWS).archive().data) == "6afd9c218bac4e7851653bd560eec431"


def test_a_row_far_out_is_made_as_any_other() -> None:
    images = decode(Recipe(10_000_000).archive()).images(np.array([9_999_999, 1_234_567]))
    assert content_digest(images) == "12c5ea1aab02c0a99e3eb628f2768c13"


def test_a_row_is_the_same_in_any_company_order_and_number_of_threads(table: DigitTable) -> None:
    rows = np.arange(4_000, 8_000)
    together = table.images(rows)
    np.testing.assert_array_equal(table.images(rows[::-1]), together[::-1])
    np.testing.assert_array_equal(table.images(rows[1_777:1_778]), together[1_777:1_778])
    np.testing.assert_array_equal(table.images(rows[1_100:1_105]), together[1_100:1_105])
    with parallel_config(backend="threading", n_jobs=1):
        np.testing.assert_array_equal(table.images(rows), together)


def test_the_first_rows_are_the_samples_own_digits(table: DigitTable) -> None:
    own = decode(sample.read())
    np.testing.assert_array_equal(table.images(np.arange(BASE)), own.pixels)
    np.testing.assert_array_equal(table.labels[:BASE], own.labels)


def test_every_base_digit_is_deformed_as_often_as_any_other_and_into_other_images() -> None:
    assert set(np.bincount(base_of(np.arange(3 * BASE), BASE)).tolist()) == {3}
    classes = decode(Recipe(10_000).archive()).labels[BASE : BASE + 100]
    assert np.bincount(classes, minlength=10).min() >= 5
    bases = base_of(np.arange(10 * BASE), BASE)
    pixels = decode(Recipe(10 * BASE).archive()).images(np.flatnonzero(bases == 7))
    assert len(np.unique(pixels, axis=0)) == 10


def test_deformed_digits_keep_their_ink_and_their_shape(table: DigitTable) -> None:
    """The correlation with the base digit is that of the same digit written again."""
    rows = np.arange(BASE, 2 * BASE)
    made = table.images(rows).astype(float)
    base = table.pixels[base_of(rows, BASE)].astype(float)
    ink = made.sum(axis=1) / base.sum(axis=1)
    assert 0.6 < np.quantile(ink, 0.01) < np.quantile(ink, 0.99) < 1.5
    like = [np.corrcoef(one, other)[0, 1] for one, other in zip(made, base, strict=True)]
    assert 0.4 < np.median(like) < 0.8


def test_a_deformation_of_nothing_leaves_a_digit_as_it_is(table: DigitTable) -> None:
    still = Deformation(rotation=0, zoom=0, shift=0, alpha=0)
    own = table.pixels[:50]
    every = np.arange(50)
    np.testing.assert_array_equal(still.deform(corners_of(own), every, every), own)


def test_a_digit_turns_moves_and_grows_as_far_as_it_is_told() -> None:
    """A single dot, deformed in one way at a time, is found where that way can lead to."""
    dot = np.zeros((1, 28, 28), np.uint8)
    dot[0, 6, 13:15] = 255
    number = np.arange(2_000)
    nothing = {"rotation": 0.0, "zoom": 0.0, "shift": 0.0, "alpha": 0.0}

    def spread(**one: float) -> tuple[float, float]:
        deformation = Deformation(**(nothing | one))  # type: ignore[arg-type]
        made = deformation.deform(corners_of(dot.reshape(1, -1)), 0 * number, number)
        ink = made.reshape(-1, 28, 28).astype(float)
        mass = ink.sum(axis=(1, 2))
        rows = ink.sum(axis=2) @ np.arange(28) / mass
        columns = ink.sum(axis=1) @ np.arange(28) / mass
        return float(np.ptp(rows)), float(np.ptp(columns))

    assert spread(shift=2.0) == pytest.approx((4, 4), abs=0.3)
    # 7.5 pixels above the middle
    assert spread(rotation=20.0)[1] == pytest.approx(2 * 7.5 * np.sin(np.deg2rad(20)), abs=0.3)
    assert spread(zoom=0.2)[0] == pytest.approx(7.5 * (1 / 0.8 - 1 / 1.2), abs=0.4)


def test_a_test_digit_is_never_learnt_from_deformed(table: DigitTable, drawn: Split) -> None:
    from sklearn.model_selection import train_test_split

    _, test_base = train_test_split(np.arange(BASE), **TUTORIAL)
    assert set(base_of(drawn.test.row_id, BASE).tolist()) == set(test_base.tolist())
    assert not set(base_of(drawn.train.row_id, BASE).tolist()) & set(test_base.tolist())
    parts = np.concatenate([drawn.train.row_id, drawn.test.row_id])
    np.testing.assert_array_equal(np.sort(parts), np.arange(ROWS))
    np.testing.assert_array_equal(drawn.test.labels, table.labels[drawn.test.row_id])
    # shuffled
    assert abs(np.corrcoef(drawn.train.row_id, np.arange(len(drawn.train)))[0, 1]) < 0.05


def test_a_base_digit_is_held_out_with_all_that_was_made_from_it(drawn: Split) -> None:
    parts = validation.hold_out(drawn.train, size=0.1, random_state=42)
    assert parts.held_out is not None
    held_out = set(base_of(parts.held_out.row_id, BASE).tolist())
    assert len(held_out) == 400
    assert not held_out & set(base_of(parts.fitted.row_id, BASE).tolist())
    assert len(parts.fitted) + len(parts.held_out) == len(drawn.train)


def test_held_out_rows_are_bounded_and_what_was_fitted_is_still_known(
    drawn: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "MOST_HELD_OUT", 100)
    parts = validation.hold_out(drawn.train, size=0.1, random_state=42)
    assert parts.held_out is not None
    assert 400 < len(parts.held_out) <= 500
    by = validation.Validated(parts.held_out.row_id, parts.held_out.labels, 1.0, [], 1.0)
    rows = validation.digest_of_rows(parts.fitted.row_id)
    model = validation.Fitted(drawn.train.origin, "digits", {}, rows, by)
    result = validation.only_training_rows(model, drawn.train)
    assert result.passed, result.description
    again = validation.fitted_rows(model, drawn.train.row_id)
    np.testing.assert_array_equal(again, parts.fitted.row_id)
    leaky = dataclasses.replace(model, rows=validation.digest_of_rows(drawn.train.row_id))
    assert not validation.only_training_rows(leaky, drawn.train).passed


def failed(table: DigitTable, drawn: Split, part: str = "train") -> set[str]:
    results = checks.of_split(table, drawn, part)  # type: ignore[arg-type]
    return {result.name for result in results if not result.passed}


def test_sound_parts_pass_every_check(table: DigitTable, drawn: Split) -> None:
    assert failed(table, drawn) == failed(table, drawn, "test") == set()


def test_a_row_in_both_parts_is_seen(table: DigitTable, drawn: Split) -> None:
    leaking = drawn._replace(
        test=rows_of(table, drawn, [*drawn.test.row_id, drawn.train.row_id[0]])
    )
    assert failed(table, leaking, "test") >= {"disjoint", "row_counts"}


def test_a_deformed_test_digit_among_the_training_digits_is_seen(
    table: DigitTable, drawn: Split
) -> None:
    stray = drawn.test.row_id[drawn.test.row_id >= BASE][0]
    leaking = Split(
        rows_of(table, drawn, [*drawn.train.row_id, stray]),
        rows_of(table, drawn, drawn.test.row_id[drawn.test.row_id != stray]),
    )
    assert "disjoint" in failed(table, leaking)


def test_an_image_in_both_parts_is_seen_under_another_row(table: DigitTable, drawn: Split) -> None:
    pixels = drawn.test.pixels.copy()
    pixels[3] = drawn.train.pixels[5]
    twice = drawn._replace(test=dataclasses.replace(drawn.test, pixels=pixels))
    result = checks.disjoint(twice)
    assert result.metadata == {"rows": 0, "bases": 0, "images": 1}
    assert not result.passed


def test_labels_and_pixels_that_are_not_the_base_digits_own_are_seen(
    table: DigitTable, drawn: Split
) -> None:
    labels = np.where(drawn.train.row_id >= BASE, 9 - drawn.train.labels, drawn.train.labels)
    mixed = drawn._replace(train=dataclasses.replace(drawn.train, labels=labels.astype(np.uint8)))
    assert "equals_sklearn" in failed(table, mixed)
    pixels = drawn.train.pixels.copy()
    pixels[np.flatnonzero(drawn.train.row_id < BASE)[0], 400] ^= 1
    other = drawn._replace(train=dataclasses.replace(drawn.train, pixels=pixels))
    assert "equals_sklearn" in failed(table, other)


def rows_of(table: DigitTable, drawn: Split, row_id: object) -> Digits:
    row_id = np.asarray(row_id, np.int32)
    return Digits(row_id, table.images(row_id), table.labels[row_id], drawn.train.origin)


def test_the_evaluation_has_the_accuracy_on_real_test_digits_alone(drawn: Split) -> None:
    own = drawn.test.row_id < BASE
    prediction = np.where(own, drawn.test.labels, 9 - drawn.test.labels).astype(np.uint8)
    scores = np.eye(10, dtype=np.float32)[prediction]
    predictions = Predictions(
        drawn.test.row_id,
        drawn.test.labels,
        prediction,
        scores,
        drawn.test.origin,
        "a model",
        "digits",
        None,
    )
    found = metrics.evaluate(predictions)
    assert found.real_test is not None
    assert (found.real_test["n"], found.real_test["accuracy"]) == (1000, 1.0)
    assert found.accuracy == pytest.approx(1000 / len(drawn.test))
    assert metrics.Evaluation.from_json(found.to_json()) == found
    other = dataclasses.replace(
        predictions, origin=dataclasses.replace(predictions.origin, bases=None)
    )
    assert "real_test" not in json.loads(metrics.evaluate(other).to_json())


@pytest.mark.parametrize(
    "value",
    [
        "infinite",
        "infinite:",
        "infinite:9999",
        "infinite:1000000001",
        "infinite:1e6",
        "infinite:-5",
    ],
)
def test_a_number_of_digits_that_cannot_be_made_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"MNIST_SOURCE.*infinite:N for N digits, 10000 to"):
        Settings.load(MNIST_SOURCE=value)


def test_a_number_of_digits_that_can_be_made_is_a_source() -> None:
    assert Settings.load(MNIST_SOURCE="infinite:10000").source == "infinite:10000"


@pytest.mark.parametrize(
    "change",
    [
        {"generator": 2},
        {"rows": 5},
        {"rows": "many"},
        {"base_md5": "0" * 32},
        {"deformation": {"rotation": 90.0}},
        {"more": 1},
    ],
)
def test_a_recipe_for_other_digits_than_the_code_makes_is_refused(
    change: dict[str, object],
) -> None:
    recipe = json.loads(Recipe(ROWS).archive().data) | change
    with pytest.raises(FormatError, match=r"infinite\.json is "):
        decode(Archive(json.dumps(recipe).encode(), FILENAME))


def test_what_is_no_recipe_is_refused() -> None:
    for data in (b"", b"[]", b"{}", b"\xff", b'{"deformation": 3}'):
        with pytest.raises(FormatError, match="not a recipe"):
            decode(Archive(data, FILENAME))


def test_of_a_billion_rows_only_those_are_made_that_are_asked_for() -> None:
    pixels, labels = read(sample.read(), Shape())
    table = GeneratedTable(pixels, labels, "infinite", Recipe(MOST))
    assert table.chunk(np.array([MOST - 1], np.int32)).any()
