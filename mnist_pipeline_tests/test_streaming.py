"""Digits that are not all in memory: the same versions, files and models as of those that are."""

import contextlib
import dataclasses
import itertools
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnist_pipeline.assets import codecs
from mnist_pipeline.digits import filed, prediction, training, validation
from mnist_pipeline.digits.batches import in_batches
from mnist_pipeline.digits.classifier import TrainedModel, build
from mnist_pipeline.digits.dataset import COLUMNS, Digits
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.filed import FiledDigits
from mnist_pipeline.digits.infinite import Recipe
from mnist_pipeline.digits.large import large_epochs
from mnist_pipeline.digits.pixels import LazyPixels
from mnist_pipeline.digits.report import gallery, mean_images
from mnist_pipeline.digits.split import Split, split
from mnist_pipeline.digits.survey import survey
from mnist_pipeline.digits.table import DigitTable, decode
from mnist_pipeline.digits.whitening import Whitening
from mnist_pipeline.incremental import codecs as generic
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.digest import Chunked, content_digest
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.store import Store
from mnist_pipeline.params import ModelParams
from mnist_pipeline_tests.conftest import House

ROWS = 25_000
TUTORIAL = {"test_size": 0.2, "random_state": 42}
FEW = 1000
"""Rows that are to be in memory, far fewer than there are."""


@dataclasses.dataclass(frozen=True)
class Both:
    """The same split, once in memory and once as lazy parts; the files of both parts."""

    table: DigitTable
    whole: Split
    lazy: Split
    filed: Split
    results: dict[str, list[CheckResult]]


@pytest.fixture(scope="module")
def both() -> Both:
    table = decode(Recipe(ROWS).archive())
    whole = split(table, **TUTORIAL)  # type: ignore[arg-type]
    lazy = split(table, **TUTORIAL, in_memory=FEW)  # type: ignore[arg-type]
    found = {part: survey(table, lazy, part) for part in ("train", "test")}
    results = {part: checked for part, (_, checked) in found.items()}
    return Both(table, whole, lazy, Split(*(digits for digits, _ in found.values())), results)


def opened(digits: Digits) -> Digits:
    assert isinstance(digits, FiledDigits)
    assert digits.file is not None
    return filed.read(digits.file.open("rb"), digits.version, in_memory=FEW)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_written_in_one_pass_has_the_version_and_the_check_results_of_one_in_memory(
    part: str, both: Both
) -> None:
    lazy, whole = getattr(both.filed, part), getattr(both.whole, part)
    assert isinstance(lazy.pixels, LazyPixels)
    assert isinstance(whole.pixels, np.ndarray)
    assert lazy.data_version == whole.data_version
    assert getattr(both.lazy, part).data_version == whole.data_version
    _, results = survey(both.table, both.whole, part)  # type: ignore[arg-type]
    assert both.results[part] == results


def test_its_file_is_the_table_that_anybody_reads(both: Both) -> None:
    assert isinstance(both.filed.train, FiledDigits)
    assert both.filed.train.file is not None
    frame = pd.read_parquet(both.filed.train.file)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMNS
    expected = both.whole.train.to_arrow().to_pandas()
    pd.testing.assert_frame_equal(frame, expected)


def test_a_file_is_read_by_row_group_as_it_would_be_read_whole(both: Both) -> None:
    again, whole = opened(both.filed.train), both.whole.train
    assert isinstance(again.pixels, LazyPixels)
    assert again.pixels.shape == whole.pixels.shape
    np.testing.assert_array_equal(again.row_id, whole.row_id)
    np.testing.assert_array_equal(again.labels, whole.labels)
    assert again.origin == whole.origin
    assert again.data_version == whole.data_version
    assert Digits(again.row_id, again.pixels, again.labels, again.origin).data_version == (
        whole.data_version
    )
    places = np.random.default_rng(0).integers(0, len(whole), 500)
    np.testing.assert_array_equal(again.pixels[places], whole.pixels[places])
    np.testing.assert_array_equal(again.pixels[16_380:16_390], whole.pixels[16_380:16_390])
    np.testing.assert_array_equal(again.pixels[-1], whole.pixels[-1])
    some = np.sort(places)
    np.testing.assert_array_equal(again.chosen(some).pixels[7:9], whole.pixels[some[7:9]])


def test_a_file_of_a_small_source_is_read_whole(both: Both) -> None:
    assert isinstance(both.filed.test, FiledDigits)
    assert both.filed.test.file is not None
    again = filed.read(both.filed.test.file.open("rb"), both.filed.test.version)
    np.testing.assert_array_equal(again.pixels, both.whole.test.pixels)


def test_an_open_file_can_be_read_when_its_name_is_gone(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "test_set.parquet"
    file.write_bytes(both.whole.test.to_parquet())
    again = filed.read(file.open("rb"), "a version", in_memory=FEW)
    file.unlink()
    np.testing.assert_array_equal(again.pixels[4000], both.whole.test.pixels[4000])


def test_a_temporary_file_goes_with_its_digits(both: Both) -> None:
    digits = filed.write(both.lazy.test[:100])
    assert digits.file is not None
    folder = digits.file.parent
    assert folder.exists()
    del digits
    assert not folder.exists()


def test_an_array_in_parts_counts_as_the_whole_array_does(both: Both) -> None:
    whole = both.whole.test.pixels[:100].astype(">i4")
    parts = Chunked(whole.dtype, whole.shape, [whole[:30], whole[30:]])
    assert content_digest("a", parts, b"b") == content_digest("a", whole, b"b")
    with pytest.raises(ValueError, match="bytes less than it has"):
        content_digest(dataclasses.replace(parts, chunks=[whole[:30]]))


def test_batches_of_lazy_pixels_are_those_of_the_array(both: Both) -> None:
    """To the bit, though products of matrices depend on how many rows they have."""
    weights = np.random.default_rng(0).normal(size=(784, 50)).astype(np.float32)

    def product(rows: np.ndarray) -> np.ndarray:
        return rows.astype(np.float32) @ weights

    lazy = opened(both.filed.train).pixels
    np.testing.assert_array_equal(
        in_batches(product, lazy), in_batches(product, both.whole.train.pixels)
    )


FAST = ModelParams()


@pytest.fixture(scope="module")
def model(both: Both) -> TrainedModel:
    """Fitted in memory on fewer rows than a chunk."""
    return training.fit(FAST, validation.hold_out(both.whole.train[:12_000], **HELD_OUT))  # type: ignore[arg-type]


HELD_OUT = {"size": 0.1, "random_state": 42}


def some_of(train: Digits, count: int) -> Digits:
    return train.chosen(np.arange(count))


def test_a_fit_of_one_chunk_is_the_fit_in_memory_to_the_bit(
    both: Both, model: TrainedModel
) -> None:
    train = some_of(opened(both.filed.train), 12_000)
    parts = validation.hold_out(train, **HELD_OUT)  # type: ignore[arg-type]
    assert isinstance(parts.fitted.pixels, LazyPixels)
    assert training.fit(FAST, parts).data_version == model.data_version


def test_predictions_of_lazy_digits_are_those_in_memory(both: Both, model: TrainedModel) -> None:
    lazy = prediction.predict(model, opened(both.filed.test))
    whole = prediction.predict(model, both.whole.test)
    assert lazy.data_version == whole.data_version
    assert lazy.to_parquet() == whole.to_parquet()


def test_the_report_shows_the_same_of_lazy_digits(both: Both, model: TrainedModel) -> None:
    test = opened(both.filed.test)
    predictions = prediction.predict(model, both.whole.test)
    assert gallery.in_cells(test, predictions) == gallery.in_cells(both.whole.test, predictions)
    np.testing.assert_array_equal(mean_images(test), mean_images(both.whole.test))


def test_a_fit_of_many_chunks_is_as_good_as_the_fit_in_memory(both: Both) -> None:
    params = ModelParams.model_validate({"max_iter": 2})
    lazy = training.fit(params, validation.hold_out(opened(both.filed.train), **HELD_OUT))  # type: ignore[arg-type]
    whole = training.fit(params, validation.hold_out(both.whole.train, **HELD_OUT))  # type: ignore[arg-type]
    assert lazy.rows == whole.rows
    assert lazy.validated is not None
    assert whole.validated is not None
    assert lazy.validated.accuracy == pytest.approx(whole.validated.accuracy, abs=0.005)
    assert validation.only_training_rows(lazy, both.whole.train).passed


def test_features_made_anew_are_those_of_the_scratch_file_to_the_bit(both: Both) -> None:
    fitted = some_of(both.lazy.train, 3000)
    pipeline = build(FAST)
    features = pipeline[:-1].fit_transform(fitted.pixels[:])
    whitening = Whitening.of(features, FAST.whitening)

    def first(**more: int) -> list[tuple[str, bytes]]:
        said: list[str] = []
        epochs = large_epochs(pipeline, whitening, FAST, fitted, said.append, size=1024, **more)
        found = [
            (content_digest(X), labels.tobytes())
            for epoch in itertools.islice(epochs, 2)
            for X, labels in epoch
        ]
        assert any("features are kept" in text for text in said) == (not more)
        return found

    kept = first()
    assert len(kept) == 6
    assert kept[:3] != kept[3:]  # in another order
    assert sorted(kept[:3]) == sorted(kept[3:])
    assert first(most_scratch=0) == kept


def test_lazy_digits_are_distorted_anew_in_every_epoch(both: Both) -> None:
    params = ModelParams.model_validate({"rotation": 4.0, "shift": 0.5, "max_iter": 2})
    train = some_of(opened(both.filed.train), 8_000)
    fitted = training.fit(params, validation.hold_out(train, **HELD_OUT))  # type: ignore[arg-type]
    assert fitted.validated is not None
    assert fitted.validated.accuracy > 0.95


@pytest.mark.parametrize("preset", ["scaled", "tutorial"])
def test_a_fit_that_needs_all_rows_in_memory_is_refused(preset: str, both: Both) -> None:
    params = ModelParams.model_validate({"preset": preset})
    parts = validation.hold_out(both.lazy.train, **HELD_OUT)  # type: ignore[arg-type]
    with pytest.raises(FitError, match=f"preset {preset} .* Use preset fast or accurate"):
        training.fit(params, parts)


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_for_a_file_or_for_features_is_reported(both: Both) -> None:
    with no_file_beyond(100_000), pytest.raises(StoreError, match="Make room, or point TMPDIR"):
        filed.write(both.lazy.test)
    parts = validation.hold_out(some_of(both.lazy.train, 3000), **HELD_OUT)  # type: ignore[arg-type]
    with no_file_beyond(100_000), pytest.raises(FitError, match=r"no room for 0\.0 GB of features"):
        training.fit(FAST, parts)


@pytest.mark.parametrize("data", [b"PAR1 not really", b""])
def test_what_is_not_parquet_is_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "train_set.parquet"
    file.write_bytes(data)
    with pytest.raises(FormatError, match="not a Parquet file"):
        filed.read(file.open("rb"), "a version")


def test_a_large_file_is_moved_to_the_store_and_verified_before_it_is_parsed(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generic, "LARGE", 0)
    digits = filed.write(both.lazy.test)
    codec = codecs.digits("test_set.parquet")
    data = codec.dump(digits)
    assert isinstance(data, Path)
    store = Store(tmp_path / "data")
    artifact = store.publish("test_set", codec.name_of(digits), data)
    assert not data.exists()
    again = codec.read(store, artifact, digits.data_version)
    assert again.data_version == digits.data_version
    np.testing.assert_array_equal(again.pixels, both.whole.test.pixels)
    path = Path(str(artifact.path))
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="test_set is damaged"):
        codec.read(store, artifact, digits.data_version)


def test_the_pipeline_goes_through_digits_without_end(house: House) -> None:
    result = house.materialize(variables={"MNIST_SOURCE": "infinite:10000"})
    assert result.success
    document = json.loads(house.made("evaluation").path.read_bytes())
    assert document["real_test"]["n"] == 1000
    assert document["real_test"]["accuracy"] > document["accuracy"] > 0.9
    assert house.made("train_set").metadata["dagster/row_count"] == 8000
    assert "All others are deformations of these" in house.made("report").path.read_text()


@pytest.mark.slow
def test_the_pipeline_goes_through_digits_that_are_never_all_in_memory(house: House) -> None:
    """Of 400,000 rows 314 MB of pixels and 750 MB of features are never in memory together."""
    variables = {"MNIST_SOURCE": "infinite:400000"}
    completed = house.process("run", "--json", variables=variables, timeout=900)
    assert completed.returncode == 0, completed.stderr
    assert "all features are kept" in completed.stderr
    assert int(completed.stderr.splitlines()[-1]) < 1_000_000
    document = json.loads(house.made("evaluation").path.read_bytes())
    assert document["real_test"]["accuracy"] > 0.98
    assert json.loads(house.made("champion_model").path.read_bytes())["model_version"]
