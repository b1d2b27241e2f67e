"""What was lost, damaged or interrupted is made again, and nothing else is."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.test_refresh import ALL, artifact
from mnist_pipeline_tests.webserver import until


@pytest.mark.parametrize("asset", ["test_set", "sgd_model", "champion_model"])
def test_a_deleted_artifact_comes_back_and_nothing_else(
    asset: str, furnished_forked: Forked
) -> None:
    file = artifact(furnished_forked, asset)
    file.unlink()
    standing = furnished_forked.status()[asset]
    assert standing["status"] == "missing"
    assert standing["causes"] == [f"its file is gone from the store: {file}"]
    assert furnished_forked.json("refresh")["materialized"] == [asset]
    assert file.exists()
    assert furnished_forked.json("refresh")["materialized"] == []


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_flipped_byte_is_found_by_verify_and_by_the_next_reader_and_healed(
    furnished_forked: Forked,
) -> None:
    file = artifact(furnished_forked, "test_set")
    whole = file.read_bytes()
    flip_a_byte(file)
    assert furnished_forked.status()["test_set"]["status"] == "fresh", "its size is right"
    completed = furnished_forked.cli("status", "--verify", "--json")
    assert completed.returncode == 1
    [found] = [one for one in json.loads(completed.stdout)["assets"] if one["key"] == "test_set"]
    assert found["status"] == "damaged"
    assert f"test_set is damaged: {file}" in found["causes"][0]
    reader = furnished_forked.cli("run", "--select", "predictions")
    assert reader.returncode == 1
    assert f"test_set is damaged: {file}" in reader.stderr
    assert furnished_forked.json("refresh", "--verify")["materialized"] == ["test_set"]
    assert file.read_bytes() == whole
    assert [path.name for path in file.parent.parent.glob("*.damaged-1")]
    assert furnished_forked.cli("status", "--verify").returncode == 0


def test_a_truncated_artifact_is_seen_without_reading_it(furnished_forked: Forked) -> None:
    artifact(furnished_forked, "report").write_bytes(b"<html>")
    standing = furnished_forked.status()["report"]
    assert standing["status"] == "damaged"
    assert "has 6 bytes, recorded were" in standing["causes"][0]
    assert furnished_forked.json("refresh")["materialized"] == ["report"]


@pytest.mark.parametrize(
    ("how", "asset"), [(signal.SIGINT, "test_set"), (signal.SIGTERM, "sgd_model")]
)
def test_an_interrupted_refresh_goes_on_where_it_was(
    how: signal.Signals, asset: str, forked: Forked
) -> None:
    refresh = forked.start("refresh", "--json")
    until(lambda: f"making {asset}" in refresh.err, pause=0.01)
    os.kill(refresh.process.pid or 0, how)
    assert refresh.status() != 0
    done = {key for key, found in forked.status().items() if found["status"] == "fresh"}
    assert "raw_mnist" in done
    interrupted = json.loads(refresh.out)
    assert (interrupted["status"], interrupted["error"]) == ("failure", "interrupted")
    assert set(interrupted["materialized"]) == set(interrupted["fresh"]) == done
    found = forked.json("refresh")
    assert set(found["materialized"]) == ALL - done
    assert set(found["fresh"]) == ALL
    history = forked.json("history", "--limit", "100")["materializations"]
    made = [entry["asset"] for entry in history]
    assert sorted(made) == sorted(ALL), "nothing was computed twice"
    assert len({entry["run_id"] for entry in history}) >= 6


def test_a_store_that_is_gone_altogether_is_missing_and_comes_back(
    furnished_forked: Forked,
) -> None:
    for asset in ASSETS:
        shutil.rmtree(furnished_forked.data / asset)
    assert {found["status"] for found in furnished_forked.status().values()} == {"missing"}
    assert set(furnished_forked.json("refresh")["materialized"]) == set(ASSETS)
    assert Path(furnished_forked.status()["report"]["path"]).exists()
