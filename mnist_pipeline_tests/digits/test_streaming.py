"""Digits of a large source: the same versions, files and models as of those in memory."""

import contextlib
import dataclasses
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnist_pipeline.assets.splits import codec
from mnist_pipeline.digits.data import checks, pixels, validation
from mnist_pipeline.digits.data.dataset import Digits, columns
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.model import epochs, prediction, training
from mnist_pipeline.digits.model.epochs import Epochs, Whitening
from mnist_pipeline.digits.model.pipeline import TrainedModel, build
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.report import contents
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.digits.sources.infinite import Recipe
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.store import Store
from mnist_pipeline_tests.conftest import House

ROWS = 25_000
TUTORIAL = {"test_size": 0.2, "random_state": 42}


@dataclasses.dataclass(frozen=True)
class Both:
    """The same split, once in memory and once in scratch files."""

    table: DigitTable
    whole: Split
    mapped: Split


@contextlib.contextmanager
def only_in_memory(rows: int) -> Iterator[None]:
    """Take a source with more rows for a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "IN_MEMORY", rows)
        yield


@pytest.fixture
def few() -> Iterator[None]:
    """Take all sources for large ones."""
    with only_in_memory(1000):
        yield


@pytest.fixture(scope="module")
def both() -> Both:
    table = decode(Recipe(ROWS).archive())
    whole = split(table, **TUTORIAL)  # type: ignore[arg-type]
    with only_in_memory(1000):
        return Both(table, whole, split(table, **TUTORIAL))  # type: ignore[arg-type]


def is_mapped(array: np.ndarray) -> bool:
    while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_in_a_scratch_file_has_the_version_and_the_check_results_of_one_in_memory(
    part: str, both: Both
) -> None:
    mapped, whole = getattr(both.mapped, part), getattr(both.whole, part)
    assert is_mapped(mapped.pixels)
    assert not is_mapped(whole.pixels)
    np.testing.assert_array_equal(mapped.pixels, whole.pixels)
    assert mapped.data_version == whole.data_version
    assert checks.of_split(both.table, both.mapped, part) == (  # type: ignore[arg-type]
        checks.of_split(both.table, both.whole, part)  # type: ignore[arg-type]
    )


def test_the_file_is_the_table_that_pandas_reads(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "train_set.parquet"
    both.mapped.train.write(file)
    frame = pd.read_parquet(file)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns(784)
    pd.testing.assert_frame_equal(frame, both.whole.train.to_arrow().to_pandas())


def test_the_file_of_a_large_source_is_read_as_that_of_a_small_one(
    both: Both, tmp_path: Path
) -> None:
    file = tmp_path / "train_set.parquet"
    both.whole.train.write(file)
    small = Digits.read(file)
    with only_in_memory(1000):
        large = Digits.read(file)
    file.unlink()
    assert [is_mapped(digits.pixels) for digits in (small, large)] == [False, True]
    assert large.origin == both.whole.train.origin
    assert large.data_version == small.data_version == both.whole.train.data_version


def test_no_scratch_file_has_a_name_that_could_be_left_behind(both: Both, few: None) -> None:
    before = set(Path(tempfile.gettempdir()).glob("mnist-pipeline-*"))
    some = both.whole.train.chosen(np.arange(3))
    assert is_mapped(some.pixels)
    assert set(Path(tempfile.gettempdir()).glob("mnist-pipeline-*")) == before


def test_rows_of_a_large_source_are_chosen_as_of_an_array(both: Both, few: None) -> None:
    places = np.random.default_rng(0).integers(0, len(both.whole.train), 20_000)
    some = both.mapped.train.chosen(places)
    assert is_mapped(some.pixels)
    np.testing.assert_array_equal(some.pixels, both.whole.train.pixels[places])
    assert len(both.mapped.train.chosen(places[:0]).pixels) == 0


FAST = ModelParams()


@pytest.fixture(scope="module")
def model(both: Both) -> TrainedModel:
    """Fitted in memory on fewer rows than a chunk."""
    return training.fit(FAST, validation.hold_out(both.whole.train[:12_000], **HELD_OUT))  # type: ignore[arg-type]


HELD_OUT = {"size": 0.1, "random_state": 42}


def test_a_fit_of_one_chunk_is_the_fit_in_memory_to_the_bit(
    both: Both, model: TrainedModel, few: None
) -> None:
    parts = validation.hold_out(both.mapped.train[:12_000], **HELD_OUT)  # type: ignore[arg-type]
    assert is_mapped(parts.fitted.pixels)
    assert training.fit(FAST, parts).data_version == model.data_version


def test_predictions_of_mapped_digits_are_those_in_memory(both: Both, model: TrainedModel) -> None:
    mapped = prediction.predict(model, both.mapped.test)
    whole = prediction.predict(model, both.whole.test)
    assert mapped.data_version == whole.data_version
    assert mapped.to_parquet() == whole.to_parquet()


def test_the_report_shows_the_same_of_mapped_digits(both: Both, model: TrainedModel) -> None:
    test = both.mapped.test
    predictions = prediction.predict(model, both.whole.test)
    assert contents.in_cells(test, predictions) == contents.in_cells(both.whole.test, predictions)
    np.testing.assert_array_equal(contents.mean_images(test), contents.mean_images(both.whole.test))


def test_a_fit_of_many_chunks_is_as_good_as_the_fit_in_memory(both: Both) -> None:
    params = ModelParams.model_validate({"max_iter": 2})
    with only_in_memory(1000):
        mapped = training.fit(params, validation.hold_out(both.mapped.train, **HELD_OUT))  # type: ignore[arg-type]
    whole = training.fit(params, validation.hold_out(both.whole.train, **HELD_OUT))  # type: ignore[arg-type]
    assert mapped.rows == whole.rows
    assert mapped.validated is not None
    assert whole.validated is not None
    assert mapped.validated.accuracy == pytest.approx(whole.validated.accuracy, abs=0.005)
    assert validation.only_training_rows(mapped, both.whole.train).passed


def test_features_computed_again_are_those_of_the_scratch_file_to_the_bit(
    both: Both, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "CHUNK", 1024)
    fitted = both.mapped.train[:3000]
    pipeline = build(FAST, 28)
    features = pipeline[:-1].fit_transform(fitted.pixels)
    whitening = Whitening.of(features, FAST.whitening)

    def first_two(*, kept: bool) -> list[tuple[str, bytes]]:
        messages: list[str] = []
        every = Epochs(pipeline, whitening, FAST, fitted, messages.append)
        found = [
            (content_digest(X), labels.tobytes()) for _ in range(2) for X, labels in every.batches()
        ]
        assert any("features are kept" in text for text in messages) == kept
        return found

    kept = first_two(kept=True)
    assert len(kept) == 6
    assert kept[:3] != kept[3:]  # in another order
    assert sorted(kept[:3]) == sorted(kept[3:])
    monkeypatch.setattr(epochs, "SCRATCH_BYTES", 0)
    assert first_two(kept=False) == kept


def test_digits_of_a_large_source_are_distorted_again_in_every_epoch(both: Both, few: None) -> None:
    params = ModelParams.model_validate({"rotation": 4.0, "shift": 0.5, "max_iter": 2})
    fitted = training.fit(params, validation.hold_out(both.mapped.train[:8_000], **HELD_OUT))  # type: ignore[arg-type]
    assert fitted.validated is not None
    assert fitted.validated.accuracy > 0.95


@pytest.mark.parametrize("preset", ["scaled", "tutorial"])
def test_a_fit_that_needs_all_rows_in_memory_is_refused(preset: str, both: Both, few: None) -> None:
    params = ModelParams.model_validate({"preset": preset})
    parts = validation.hold_out(both.mapped.train, **HELD_OUT)  # type: ignore[arg-type]
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


def test_no_room_for_images_a_file_or_features_is_an_error_with_a_remedy(
    both: Both, few: None
) -> None:
    parts = validation.hold_out(both.mapped.train[:3000], **HELD_OUT)  # type: ignore[arg-type]
    remedy = r".*\. Make room.* or point TMPDIR"
    with no_file_beyond(100_000):
        with pytest.raises(StoreError, match=r"no room for 0\.0 GB of images in " + remedy):
            split(both.table, **TUTORIAL)  # type: ignore[arg-type]
        with (
            pytest.raises(StoreError, match="cannot write .*test_set.parquet" + remedy),
            codec("test").encoded(both.mapped.test),
        ):
            pass
        with pytest.raises(StoreError, match=r"no room for 0\.0 GB of features in " + remedy):
            training.fit(FAST, parts)


def test_a_file_is_moved_to_the_store_and_verified_before_it_is_parsed(
    both: Both, tmp_path: Path
) -> None:
    store, test_set = Store(tmp_path / "data"), codec("test")
    with test_set.encoded(both.mapped.test) as file:
        assert isinstance(file, Path)
        artifact = store.publish("test_set", "test_set.parquet", file)
    assert not file.parent.exists()
    again = test_set.read(store, artifact)
    np.testing.assert_array_equal(again.pixels, both.whole.test.pixels)
    path = Path(str(artifact.path))
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="test_set is damaged"):
        test_set.read(store, artifact)


def test_what_is_not_a_split_in_the_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.publish("test_set", "test_set.parquet", b"PAR1 not really")
    with pytest.raises(FormatError, match="not a Parquet file"):
        codec("test").read(store, artifact)


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
