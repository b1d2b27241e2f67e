"""What was lost, damaged or interrupted is made again, and nothing else is.

Each in a copy of the project.
"""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.test_refresh import ALL, artifact


@pytest.mark.parametrize("asset", ["test_set", "sgd_model", "champion_model"])
def test_a_deleted_artifact_comes_back_and_nothing_else(asset: str, furnished_clone: Clone) -> None:
    file = artifact(furnished_clone, asset)
    file.unlink()
    standing = furnished_clone.status()[asset]
    assert standing["status"] == "missing"
    assert standing["causes"] == [f"its file is gone from the store: {file}"]
    assert furnished_clone.json("refresh")["materialized"] == [asset]
    assert file.exists()
    assert furnished_clone.json("refresh")["materialized"] == []


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_flipped_byte_is_found_by_verify_and_by_the_next_reader_and_healed(
    furnished_clone: Clone,
) -> None:
    file = artifact(furnished_clone, "test_set")
    whole = file.read_bytes()
    flip_a_byte(file)
    assert furnished_clone.status()["test_set"]["status"] == "fresh", "its size is right"
    completed = furnished_clone.cli("status", "--verify", "--json")
    assert completed.returncode == 1
    [found] = [one for one in json.loads(completed.stdout)["assets"] if one["key"] == "test_set"]
    assert found["status"] == "damaged"
    assert f"test_set is damaged: {file}" in found["causes"][0]
    reader = furnished_clone.cli("run", "--select", "predictions")
    assert reader.returncode == 1
    assert f"test_set is damaged: {file}" in reader.stderr
    assert furnished_clone.json("refresh", "--verify")["materialized"] == ["test_set"]
    assert file.read_bytes() == whole
    assert [path.name for path in file.parent.parent.glob("*.damaged-1")]
    assert furnished_clone.cli("status", "--verify").returncode == 0


def test_a_truncated_artifact_is_seen_without_reading_it(furnished_clone: Clone) -> None:
    artifact(furnished_clone, "report").write_bytes(b"<html>")
    standing = furnished_clone.status()["report"]
    assert standing["status"] == "damaged"
    assert "has 6 bytes, recorded were" in standing["causes"][0]
    assert furnished_clone.json("refresh")["materialized"] == ["report"]


def wave_of(process_lines: Callable[[], str], asset: str) -> None:
    while f"making {asset}" not in (line := process_lines()):
        assert line, f"ended before it came to {asset}"


@pytest.mark.parametrize(
    ("how", "asset"),
    [
        (signal.SIGINT, "test_set"),
        (signal.SIGTERM, "sgd_model"),
        (signal.SIGKILL, "test_set"),
        (signal.SIGKILL, "evaluation"),
    ],
)
def test_an_interrupted_refresh_goes_on_where_it_was(
    how: signal.Signals, asset: str, clone: Clone
) -> None:
    process = clone.popen("refresh", "--json")
    assert process.stderr is not None
    wave_of(process.stderr.readline, asset)
    process.send_signal(how)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    done = {key for key, found in clone.status().items() if found["status"] == "fresh"}
    assert "raw_mnist" in done
    if how is not signal.SIGKILL:
        interrupted = json.loads(out)
        assert (interrupted["status"], interrupted["error"]) == ("failure", "interrupted")
        assert set(interrupted["materialized"]) == set(interrupted["fresh"]) == done
    found = clone.json("refresh")
    assert set(found["materialized"]) == ALL - done
    assert set(found["fresh"]) == ALL
    runs = [entry["run_id"] for entry in clone.json("history")["materializations"]]
    made = [entry["asset"] for entry in clone.json("history")["materializations"]]
    assert sorted(made) == sorted(ALL), "nothing was computed twice"
    assert len(set(runs)) >= 6


def test_a_store_that_is_gone_altogether_is_missing_and_comes_back(furnished_clone: Clone) -> None:
    for asset in ASSETS:
        shutil.rmtree(furnished_clone.data / asset)
    assert {found["status"] for found in furnished_clone.status().values()} == {"missing"}
    assert set(furnished_clone.json("refresh")["materialized"]) == set(ASSETS)
    assert Path(furnished_clone.status()["report"]["path"]).exists()
