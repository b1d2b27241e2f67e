"""The splits: the tutorial's rows in the tutorial's order, in files that other tools read."""

import dataclasses
import io
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from mnist_pipeline.digits.data import checks
from mnist_pipeline.digits.data.dataset import Digits, columns
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.table import IDX_MD5, ROWS, DigitTable, idx_md5
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline_tests.conftest import archive

TUTORIAL = {"test_size": 0.2, "random_state": 42}


@pytest.fixture(scope="module")
def table(small_arff: bytes) -> DigitTable:
    return decode(archive(small_arff))


@pytest.fixture(scope="module")
def drawn(table: DigitTable) -> Split:
    return split(table, **TUTORIAL)  # type: ignore[arg-type]


def failed(results: list[CheckResult]) -> set[str]:
    return {result.name for result in results if not result.passed}


def test_a_split_equals_scikit_learns_row_for_row(table: DigitTable, drawn: Split) -> None:
    from sklearn.model_selection import train_test_split

    expected = train_test_split(table.pixels, table.labels, **TUTORIAL)
    found = [drawn.train.pixels, drawn.test.pixels, drawn.train.labels, drawn.test.labels]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for part in drawn:
        np.testing.assert_array_equal(part.pixels, table.pixels[part.row_id])


def test_the_file_comes_back_as_the_digits_it_was_made_from(drawn: Split, tmp_path: Path) -> None:
    file = tmp_path / "train_set.parquet"
    drawn.train.write(file)
    again = Digits.read(file)
    np.testing.assert_array_equal(again.row_id, drawn.train.row_id)
    np.testing.assert_array_equal(again.pixels, drawn.train.pixels)
    np.testing.assert_array_equal(again.labels, drawn.train.labels)
    assert again.origin == drawn.train.origin
    assert again.data_version == drawn.train.data_version


def test_pandas_and_duckdb_read_the_file_as_openmls_table(drawn: Split, tmp_path: Path) -> None:
    file = tmp_path / "test_set.parquet"
    drawn.test.write(file)
    frame = pd.read_parquet(file)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns(784)
    np.testing.assert_array_equal(frame["class"], drawn.test.labels)
    query = 'SELECT row_id, pixel784, "class" FROM read_parquet(?) LIMIT 1'
    row = duckdb.connect().execute(query, [str(file)]).fetchone()
    assert row == (drawn.test.row_id[0], drawn.test.pixels[0, -1], drawn.test.labels[0])


@pytest.mark.parametrize("data", [b"PAR1 not really", b""])
def test_what_is_not_parquet_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a Parquet file"):
        Digits.read(io.BytesIO(data))


def test_parquet_with_other_columns_is_refused() -> None:
    buffer = io.BytesIO()
    pd.DataFrame({"row_id": [1]}).to_parquet(buffer)
    with pytest.raises(FormatError, match="the columns are not row_id, pixel1"):
        Digits.read(buffer)


def test_the_version_follows_content_alone(table: DigitTable, drawn: Split) -> None:
    again = split(decode(archive_of_table(table)), **TUTORIAL)  # type: ignore[arg-type]
    assert again.train.data_version == drawn.train.data_version
    other = split(table, test_size=0.2, random_state=7)
    assert other.train.data_version != drawn.train.data_version
    pixels = drawn.train.pixels.copy()
    pixels[3, 300] ^= 1
    touched = dataclasses.replace(drawn.train, pixels=pixels)
    assert touched.data_version != drawn.train.data_version


def archive_of_table(table: DigitTable) -> Archive:
    from mnist_pipeline_tests.conftest import HEADER

    lines = (
        ",".join(map(str, [*pixels, label])).encode()
        for pixels, label in zip(table.pixels.tolist(), table.labels.tolist(), strict=True)
    )
    return archive(HEADER + b"\r\n".join(lines))


def test_sound_splits_pass_every_check_but_that_they_are_all_of_mnist(
    table: DigitTable, drawn: Split
) -> None:
    assert failed(checks.of_split(table, drawn, "train")) == {"is_mnist"}


def test_a_row_in_both_parts_is_detected(table: DigitTable, drawn: Split) -> None:
    leaking = drawn._replace(test=rows_of(table, [*drawn.test.row_id, drawn.train.row_id[0]]))
    assert {"disjoint", "row_counts"} <= failed(checks.of_split(table, leaking, "test"))


def test_an_image_in_both_parts_is_detected_under_another_row(
    table: DigitTable, drawn: Split
) -> None:
    pixels = table.pixels.copy()
    pixels[drawn.test.row_id[0]] = pixels[drawn.train.row_id[0]]
    twice = dataclasses.replace(table, pixels=pixels)
    again = split(twice, **TUTORIAL)  # type: ignore[arg-type]
    result = checks.disjoint(again)
    assert not result.passed
    assert result.metadata == {"rows": 0, "bases": 0, "images": 1}


def test_rows_in_another_order_than_scikit_learns_are_detected(
    table: DigitTable, drawn: Split
) -> None:
    reordered = drawn._replace(train=rows_of(table, sorted(drawn.train.row_id)))
    assert failed(checks.of_split(table, reordered, "train")) >= {"equals_sklearn"}


def test_labels_that_are_not_their_images_are_detected(table: DigitTable, drawn: Split) -> None:
    labels = np.roll(drawn.train.labels, 1)
    mixed = drawn._replace(train=dataclasses.replace(drawn.train, labels=labels))
    assert not checks.equals_sklearn(table, mixed, "train").passed


def test_a_row_that_is_in_neither_part_is_detected(table: DigitTable, drawn: Split) -> None:
    short = drawn._replace(train=rows_of(table, drawn.train.row_id[1:]))
    assert not checks.row_counts(table, short).passed


def test_columns_of_another_type_are_detected(drawn: Split) -> None:
    wide = dataclasses.replace(drawn.test, labels=drawn.test.labels.astype(np.int64))
    assert not checks.schema_and_range(wide).passed


def test_a_missing_class_is_detected(table: DigitTable, drawn: Split) -> None:
    keep = drawn.train.row_id[drawn.train.labels != 3]
    assert not checks.class_balance(rows_of(table, keep)).passed


def test_images_without_ink_and_classes_beyond_nine_are_detected(drawn: Split) -> None:
    blank = dataclasses.replace(drawn.test, pixels=np.zeros_like(drawn.test.pixels))
    assert not checks.schema_and_range(blank).passed
    eleven = dataclasses.replace(drawn.test, labels=np.full_like(drawn.test.labels, 11))
    assert not checks.schema_and_range(eleven).passed


def rows_of(table: DigitTable, row_id: object) -> Digits:
    row_id = np.asarray(row_id, np.int32)
    origin = split(table, **TUTORIAL).train.origin  # type: ignore[arg-type]
    return Digits(row_id, table.pixels[row_id], table.labels[row_id], origin)


# all 70,000


@pytest.fixture(scope="module")
def all_of_mnist(genuine: Archive) -> DigitTable:
    return decode(genuine)


def test_the_genuine_digits_are_proven_to_be_mnist(all_of_mnist: DigitTable) -> None:
    assert idx_md5(all_of_mnist.pixels, all_of_mnist.labels) == IDX_MD5
    assert checks.is_mnist(all_of_mnist).passed
    assert all_of_mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert all_of_mnist.labels[60_000:60_005].tolist() == [7, 2, 1, 0, 4]


def test_mnist_with_two_rows_swapped_is_not_mnist(all_of_mnist: DigitTable) -> None:
    order = np.arange(ROWS)
    order[[10, 11]] = order[[11, 10]]
    pixels, labels = all_of_mnist.pixels[order], all_of_mnist.labels[order]
    swapped = DigitTable(pixels, labels, "openml", promises_mnist=True)
    assert not checks.is_mnist(swapped).passed


def test_the_genuine_splits_are_the_tutorials(all_of_mnist: DigitTable) -> None:
    from sklearn.model_selection import train_test_split

    drawn = split(all_of_mnist, **TUTORIAL)  # type: ignore[arg-type]
    assert (len(drawn.train), len(drawn.test)) == (56_000, 14_000)
    assert drawn.train.labels[0] == 5
    assert drawn.test.labels[:3].tolist() == [8, 4, 8]
    assert drawn.test.labels[-3:].tolist() == [2, 7, 1]
    X_train, X_test, y_train, y_test = train_test_split(
        all_of_mnist.pixels, all_of_mnist.labels, **TUTORIAL
    )
    np.testing.assert_array_equal(drawn.train.pixels, X_train)
    np.testing.assert_array_equal(drawn.test.pixels, X_test)
    np.testing.assert_array_equal(drawn.train.labels, y_train)
    np.testing.assert_array_equal(drawn.test.labels, y_test)
    assert failed(checks.of_split(all_of_mnist, drawn, "train")) == set()
