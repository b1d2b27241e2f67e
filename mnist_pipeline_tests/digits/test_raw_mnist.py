"""The asset `raw_mnist`: what it asks for, what it makes do with, and what it says of that."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import dagster as dg
import pytest

from mnist_pipeline.digits.data.table import IDX_MD5
from mnist_pipeline.digits.errors import SourceError
from mnist_pipeline.digits.sources import openml, transfer
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.digits.sources.source import Access
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline.incremental.history import artifact_metadata
from mnist_pipeline.incremental.session import RunResult
from mnist_pipeline.incremental.store import Store
from mnist_pipeline_tests.conftest import House, open_house
from mnist_pipeline_tests.digits.test_openml import DESCRIPTION, LIST
from mnist_pipeline_tests.support.openml_server import DOWNLOAD, Fault, OpenML, serve, serve_files


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.02)


def from_openml(server: OpenML) -> dict[str, str]:
    return {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": server.url}


def retries(house: House, result: RunResult) -> int:
    """How often the steps of a run were tried again."""
    wanted = {dg.DagsterEventType.STEP_UP_FOR_RETRY}
    return len(house.instance.all_logs(str(result.run_id), of_type=wanted))


def test_a_verified_archive_is_not_downloaded_again_while_openml_names_its_md5(
    house: House, small_openml: OpenML
) -> None:
    with serve(small_openml) as server:
        assert house.materialize("raw_mnist", from_openml(server)).success
        first = house.made("raw_mnist")
        assert house.materialize("raw_mnist", from_openml(server)).success
        second = house.made("raw_mnist")
        assert server.downloads == 1
        assert server.requests.count(DESCRIPTION) == 2
    assert (first.metadata["downloaded"], second.metadata["downloaded"]) == (True, False)
    assert first.data_version == second.data_version == server.md5
    assert first.path.read_bytes() == server.packed


def test_a_new_md5_leads_to_a_new_download_and_the_old_archive_stays(
    house: House, small_openml: OpenML, small_arff: bytes
) -> None:
    with serve(small_openml) as server:
        house.materialize("raw_mnist", from_openml(server))
    old = house.made("raw_mnist")
    with serve(OpenML.of(b"% new\n" + small_arff)) as server:
        assert house.materialize("raw_mnist", from_openml(server)).success
        assert server.downloads == 1
    assert house.made("raw_mnist").data_version != old.data_version
    assert old.path.read_bytes() == small_openml.packed


def test_a_damaged_archive_in_the_store_is_downloaded_again(
    house: House, small_openml: OpenML
) -> None:
    with serve(small_openml) as server:
        house.materialize("raw_mnist", from_openml(server))
        path = house.made("raw_mnist").path
        path.write_bytes(path.read_bytes()[:-1])
        assert house.materialize("raw_mnist", from_openml(server)).success
        assert server.downloads == 2
    assert path.read_bytes() == server.packed


def test_a_download_with_another_md5_than_promised_is_refused_and_nothing_is_kept(
    house: House, small_openml: OpenML
) -> None:
    small_openml.md5 = "0" * 32
    with serve(small_openml) as server:
        result = house.materialize("raw_mnist", from_openml(server))
    assert not result.success
    assert house.latest("raw_mnist") is None
    assert not (house.folder / "raw_mnist").exists()
    check = house.check("raw_mnist", "checksum")
    assert not check.passed
    assert "0" * 32 in (check.description or "")


def test_a_source_that_is_down_is_tried_again_by_the_step_and_one_that_refuses_is_not(
    house: House, small_openml: OpenML
) -> None:
    small_openml.faults[LIST] = [Fault(503)] * transfer.ATTEMPTS
    with serve(small_openml) as server:
        result = house.materialize("raw_mnist", from_openml(server))
    assert result.success
    assert retries(house, result) == 1
    assert small_openml.requests.count(LIST) == transfer.ATTEMPTS + 1

    small_openml.requests.clear()
    small_openml.faults[LIST] = [Fault(412)] * 9
    with serve(small_openml) as server:
        result = house.materialize("raw_mnist", from_openml(server))
    assert not result.success
    assert small_openml.requests == [LIST]
    assert retries(house, result) == 0
    said = str(result.error)
    assert f"{server.url}{LIST}: answers 412" in said
    assert "MNIST_OPENML_SERVER" in said
    assert "MNIST_MIRRORS" not in said, "no mirror was asked"
    assert "MNIST_SOURCE=sample" in said


def test_offline_the_verified_archive_in_the_store_serves_and_no_mirror_is_asked(
    house: House, small_openml: OpenML, tmp_path: Path
) -> None:
    with serve(small_openml) as server:
        assert house.materialize("*train_set", from_openml(server)).success
        first = house.made("raw_mnist")
    variables = from_openml(small_openml)
    with serve_files(tmp_path) as (mirror, asked):
        result = house.materialize("*train_set", variables | {"MNIST_MIRRORS": mirror})
        assert result.success
        assert asked == []
    again = house.made("raw_mnist")
    assert again.storage_id > first.storage_id
    assert again.data_version == first.data_version
    assert again.metadata["downloaded"] is False
    assert again.metadata["origin"] == first.metadata["origin"]
    assert "refused" in again.metadata["failed"][0]


def test_a_damaged_archive_in_the_store_is_never_used_however_long_openml_is_down(
    house: House, small_openml: OpenML
) -> None:
    with serve(small_openml) as server:
        assert house.materialize("raw_mnist", from_openml(server)).success
    path = house.made("raw_mnist").path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with serve(OpenML(b"", "", down=True)) as server:
        # an hour is too long for a step to wait
        server.faults[LIST] = [Fault(503, {"Retry-After": "3600"})] * 9
        result = house.materialize("raw_mnist", from_openml(server))
    assert not result.success
    assert server.requests == [LIST]
    assert house.made("raw_mnist").metadata["downloaded"] is True


def test_while_openml_cannot_say_what_it_has_the_archive_in_the_store_serves_at_last(
    house: House, small_openml: OpenML, tmp_path: Path
) -> None:
    with serve(small_openml) as server, serve_files(tmp_path) as (mirror, asked):
        variables = from_openml(server) | {"MNIST_MIRRORS": mirror}
        assert house.materialize("raw_mnist", variables).success
        page = Fault(200, {"Content-Type": "text/html"}, b"<html>maintenance</html>")
        server.faults[LIST] = [page]
        assert house.materialize("raw_mnist", variables).success
        again = house.made("raw_mnist")
        assert (again.metadata["downloaded"], len(asked)) == (False, 1)
        assert "a web page" in again.metadata["failed"][0]
        assert "answers 404" in again.metadata["failed"][1]
        # if it does say, and it is something else, what was is not what is
        server.md5 = "1" * 32
        server.faults[DOWNLOAD] = [Fault(403)]
        assert not house.materialize("raw_mnist", variables).success


GARBAGE = Fault(body=b"garbage", headers={"Content-Encoding": "gzip"})


def test_a_download_that_was_corrupted_once_is_tried_again(
    house: House, small_openml: OpenML
) -> None:
    small_openml.faults[DOWNLOAD] = [GARBAGE]
    with serve(small_openml) as server:
        assert house.materialize("raw_mnist", from_openml(server)).success
    assert server.downloads == 2
    assert "failed" not in house.made("raw_mnist").metadata


def test_a_download_that_is_corrupted_twice_is_refused_and_says_what_else_was_tried(
    house: House, small_openml: OpenML, tmp_path: Path
) -> None:
    small_openml.faults[DOWNLOAD] = [GARBAGE, GARBAGE]
    with serve(small_openml) as server, serve_files(tmp_path) as (mirror, asked):
        variables = from_openml(server) | {"MNIST_MIRRORS": f"{mirror}/a {mirror}"}
        assert not house.materialize("raw_mnist", variables).success
    assert server.downloads == 2
    assert len(asked) == 2
    check = house.check("raw_mnist", "checksum")
    assert not check.passed
    reported = check.description or ""
    assert f"{server.url}{DOWNLOAD}: mnist_784.arff.gz is not a whole gzip file" in reported
    assert f"{mirror}/a/train-images-idx3-ubyte.gz: answers 404" in reported


def test_a_server_that_asks_for_an_hour_is_not_asked_again_by_the_step_either(
    house: House, small_openml: OpenML
) -> None:
    small_openml.faults[LIST] = [Fault(503, {"Retry-After": "3600"})] * 9
    with serve(small_openml) as server, serve(OpenML(b"", "", down=True)) as mirror:
        variables = from_openml(server) | {"MNIST_MIRRORS": f"{mirror.url}/a"}
        result = house.materialize("raw_mnist", variables)
    assert not result.success
    assert "Check the network, MNIST_OPENML_SERVER and MNIST_MIRRORS" in str(result.error)
    assert server.requests == [LIST]
    assert len(mirror.requests) == transfer.ATTEMPTS


@pytest.mark.parametrize("name", ["mnist_784.parquet", "mnist_5k.csv.gz", "x.arff.gz"])
def test_right_bytes_under_another_name_are_downloaded_again(
    name: str, house: House, small_openml: OpenML
) -> None:
    artifact = Store(house.folder).publish("raw_mnist", name, small_openml.packed)
    reported = dg.AssetMaterialization(
        "raw_mnist",
        metadata=artifact_metadata(artifact),
        tags={"dagster/data_version": small_openml.md5},
    )
    house.instance.report_runless_asset_event(reported)
    with serve(small_openml) as server:
        assert house.materialize("raw_mnist", from_openml(server)).success
        assert server.downloads == 1
    assert house.made("raw_mnist").path.name == "mnist_784.arff.gz"


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory, genuine: Archive) -> Path:
    """A folder with the four IDX files of all 70,000 digits."""
    folder = tmp_path_factory.mktemp("mirror")
    table = decode(genuine)
    for name, rows in {"train": slice(None, 60_000), "t10k": slice(60_000, None)}.items():
        pixels, labels = table.pixels[rows], table.labels[rows]
        images = struct.pack(">4I", 2051, len(labels), 28, 28) + pixels.tobytes()
        for file, content in {
            f"{name}-images-idx3-ubyte": images,
            f"{name}-labels-idx1-ubyte": struct.pack(">2I", 2049, len(labels)) + labels.tobytes(),
        }.items():
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, 1, mtime=0))
    return folder


def test_with_openml_down_a_mirror_brings_the_same_digits_and_nothing_after_the_splits_runs(
    full_size: Path, mirrored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(full_size, tmp_path / "data")
    down = OpenML(b"", "", down=True)
    with (
        open_house(tmp_path / "data", monkeypatch) as house,
        serve(down),
        serve_files(mirrored) as (url, asked),
    ):
        before = house.versions()
        variables = from_openml(down) | {"MNIST_MIRRORS": f"{url}/gone,{url}"}
        made = house.process("run", "--select", "raw_mnist", variables=variables)
        assert made.returncode == 0, made.stderr
        assert "answers 503" in made.stderr, "it says why a mirror was asked"
        assert int(made.stderr.splitlines()[-1]) < 900_000
        raw = house.made("raw_mnist")
        assert raw.path.name == "mnist.idx.gz"
        assert raw.data_version != before["raw_mnist"]
        assert raw.metadata["origin"] == url
        assert len(raw.metadata["failed"]) == 2
        assert f"digits are from {raw.metadata['origin']}" in made.stdout
        refreshed = house.cli("refresh", "--json", variables=variables)
        assert refreshed.returncode == 0, refreshed.stderr
        found = json.loads(refreshed.stdout)
        assert set(found["materialized"]) == {"train_set", "test_set", "champion_model"}
        assert set(found["reused"]) == {"sgd_model", "predictions", "evaluation", "report"}
        assert house.versions() == before | {"raw_mnist": raw.data_version}
    assert asked[0] == "/gone/train-images-idx3-ubyte.gz"
    assert asked[1:] == [f"/{name}.gz" for name in IDX_MD5]


def of_idx(images: bytes, labels: bytes) -> Archive:
    return Archive(gzip.compress((images + labels) * 2), "mnist.idx.gz")


IMAGES = struct.pack(">4I", 2051, 2, 28, 28) + bytes(range(196)) * 8
LABELS = struct.pack(">2I", 2049, 2) + b"\7\2"


def test_idx_files_are_read_one_after_another() -> None:
    table = decode(of_idx(IMAGES, LABELS))
    assert table.labels.tolist() == [7, 2, 7, 2]
    assert table.pixels.tobytes() == IMAGES[16:] * 2
    assert table.source == "openml"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", b"", "no IDX file of training images"),
        (
            LABELS,
            IMAGES,
            "no IDX file of training images of 28 x 28 pixels where one was expected: 00000801",
        ),
        (IMAGES[:15], b"", "no IDX file of training images of 28 x 28 pixels"),
        (IMAGES, LABELS[:-1], "no IDX file of test images|end after"),
        (IMAGES, b"\0\0\x08\x01\0\0\0\3\1\2\3", "3 training labels for 2 images"),
        (IMAGES, LABELS[:-1] + b"\x0a", "not all from 0 to 9"),
        (
            struct.pack(">4I", 2051, 2, 14, 56) + IMAGES[16:],
            LABELS,
            "images of 28 x 28 pixels .*0000000e00000038",
        ),
        (struct.pack(">4I", 2051, 2**32 - 1, 28, 28), b"", "end after"),
        (struct.pack(">4I", 2051, 300_000, 28, 28) + IMAGES[16:], LABELS, "end after"),
        (struct.pack(">4I", 2051, 0, 28, 28), struct.pack(">2I", 2049, 0), "there are none"),
        (IMAGES, LABELS + IMAGES, "test images|no IDX|more follows|test labels"),
    ],
)
def test_idx_files_that_are_not_mnists_in_form_are_refused(
    images: bytes, labels: bytes, message: str
) -> None:
    with pytest.raises(FormatError, match=f"mnist.idx.gz, .*({message})"):
        decode(of_idx(images, labels))


def test_what_is_not_all_of_mnist_is_no_mirror(tmp_path: Path) -> None:
    for name in IDX_MD5:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(IMAGES))
    with (
        serve_files(tmp_path) as (url, asked),
        pytest.raises(SourceError, match=r"train-images-idx3-ubyte.gz: .* promises"),
    ):
        openml.from_mirror(url, Access(transfer.get))
    first = "/train-images-idx3-ubyte.gz"
    assert asked == [first, first], "after the first that is wrong twice, no more is asked for"


def test_no_secret_of_an_address_is_kept_anywhere(
    house: House, small_openml: OpenML, tmp_path: Path
) -> None:
    with serve(small_openml) as server, serve_files(tmp_path) as (mirror, _):
        with_secret = {
            "MNIST_SOURCE": "openml",
            "MNIST_OPENML_SERVER": server.url.replace("://", "://a-person:hunter2@"),
            "MNIST_MIRRORS": mirror.replace("://", "://a-person:hunter2@"),
        }
        server.faults[LIST] = [Fault(412)]
        refused = house.cli("run", "--select", "raw_mnist", "--json", variables=with_secret)
        made = house.cli("run", "--select", "raw_mnist", variables=with_secret)
    assert (refused.returncode, made.returncode) == (1, 0)
    said = refused.stdout + refused.stderr + made.stdout + made.stderr
    assert "://***@127.0.0.1" in said
    kept = [file for file in house.folder.rglob("*") if file.is_file()]
    assert len(kept) > 5
    for text in (said.encode(), *(file.read_bytes() for file in kept)):
        assert b"hunter2" not in text
        assert b"a-person" not in text
