"""What `refresh` recomputes after an edit, a loss, a refusal or an interruption, and no more.

Each in a copy of the project in which everything was made from the sample.
"""

import gzip
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.openml_server import OpenML, serve
from mnist_pipeline_tests.test_pipeline import ASSETS

ALL = set(ASSETS)
SPLITS = {"train_set", "test_set"}
FROM_MODEL = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
DIGITS = "mnist_pipeline/digits"


def artifact(clone: Clone, asset: str) -> Path:
    """The only file of an asset."""
    [path] = clone.data.glob(f"{asset}/*/{ASSETS[asset]}")
    return path


def test_after_a_full_run_everything_is_fresh_and_nothing_is_made(furnished_clone: Clone) -> None:
    found = furnished_clone.json("refresh")
    assert (found["status"], found["materialized"]) == ("success", [])
    assert set(found["fresh"]) == ALL
    for asset, standing in furnished_clone.status("--verify").items():
        assert (standing["status"], standing["causes"]) == ("fresh", [])
        assert standing["path"] == str(artifact(furnished_clone, asset))
        assert standing["data_version"] == artifact(furnished_clone, asset).parent.name


def test_refresh_makes_everything_where_nothing_is(clone: Clone) -> None:
    assert {found["status"] for found in clone.status().values()} == {"missing"}
    plan = clone.json("refresh", "--dry-run")
    assert plan["first_wave"] == ["raw_mnist"]
    assert set(plan["may_follow"]) == ALL - {"raw_mnist"}
    assert not list(clone.data.glob("raw_mnist/*"))
    found = clone.json("refresh")
    assert set(found["materialized"]) == set(found["fresh"]) == ALL
    assert clone.json("refresh")["materialized"] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "made", "cause"),
    [
        pytest.param(
            f"{DIGITS}/classifier.py", "    classes = np", "    # why\n    classes = np", set(), "",
            id="a comment in the classifier",
        ),
        pytest.param(
            f"{DIGITS}/metrics.py", "floor: float) -> Verdict", 'floor: "float") -> "Verdict"',
            set(), "", id="annotations of a function",
        ),
        pytest.param(
            f"{DIGITS}/figures.py", 'CMAP = "cividis"', 'CMAP = "viridis"', {"report"},
            f"report: code changed in {DIGITS}/figures.py", id="a colour in the figures",
        ),
        pytest.param(
            "mnist_pipeline/params.py", "max_iter: int = Field(1000", "max_iter: int = Field(2000",
            FROM_MODEL, "sgd_model: params changed: model.max_iter 1000 -> 2000",
            id="a default in a params class",
        ),
        pytest.param(
            "params.toml", 'preset = "scaled"\n', 'preset = "scaled"\nalpha = 1e-5\n', FROM_MODEL,
            "sgd_model: params changed: model.alpha 0.0001 -> 1e-05", id="model.alpha",
        ),
        pytest.param(
            "params.toml", "0.2\nrandom_state = 42", "0.2\nrandom_state = 7",
            ALL - {"raw_mnist"}, "train_set: params changed: split.random_state 42 -> 7",
            id="the seed of the split",
        ),
        pytest.param(
            f"{DIGITS}/arff.py", "number", "line_number", SPLITS,
            f"test_set: code changed in {DIGITS}/arff.py",
            id="a local variable of the ARFF reader",
        ),
    ],
)  # fmt: skip
def test_an_edit_recomputes_what_it_may_change_and_what_it_did_change(
    file: str, old: str, new: str, made: set[str], cause: str, furnished_clone: Clone
) -> None:
    furnished_clone.edit(file, old, new)
    standings = furnished_clone.status()
    causes = [f"{asset}: {cause}" for asset in standings for cause in standings[asset]["causes"]]
    if cause:
        assert cause in causes
    else:
        assert not causes
    found = furnished_clone.json("refresh")
    assert set(found["materialized"]) == made
    assert len(found["materialized"]) == len(made)
    assert set(found["fresh"]) == ALL


def test_what_waits_says_for_what(furnished_clone: Clone) -> None:
    furnished_clone.edit("params.toml", "random_state = 42\n\n[floor]", "\n[floor]\n")
    furnished_clone.edit("params.toml", 'preset = "scaled"', 'preset = "scaled"\nrandom_state = 1')
    standings = furnished_clone.status()
    assert {asset: found["status"] for asset, found in standings.items()} == (
        dict.fromkeys(ALL, "fresh")
        | {"sgd_model": "stale"}
        | dict.fromkeys(FROM_MODEL - {"sgd_model"}, "waiting")
    )
    assert standings["evaluation"]["causes"] == ["predictions first: not fresh"]
    plan = furnished_clone.json("refresh", "--dry-run")
    assert plan["first_wave"] == ["sgd_model"]
    assert set(plan["may_follow"]) == FROM_MODEL - {"sgd_model"}
    assert plan["materialized"] == []


def test_the_same_digits_under_another_gzip_framing_make_nothing_else(
    clone: Clone, small_arff: bytes
) -> None:
    clone.edit("params.toml", "openml = 0.85", "openml = 0.5")
    openml = OpenML.of(small_arff)
    with serve(openml):
        variables = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": openml.url}
        assert set(clone.json("refresh", **variables)["materialized"]) == ALL
        [archive] = clone.data.glob("raw_mnist/*/mnist_784.arff.gz")
        first = archive.read_bytes()
        archive.unlink()
        openml.packed = gzip.compress(small_arff, 9, mtime=1)
        found = clone.json("refresh", **variables)
        assert found["materialized"] == ["raw_mnist"]
        assert openml.downloads == 2
        assert archive.read_bytes() == openml.packed != first
        asked = len(openml.requests)
        assert clone.json("refresh", **variables)["materialized"] == []
        assert len(openml.requests) == asked, "a fresh archive is nothing to ask the network for"


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


def test_a_refusal_leaves_everything_downstream_untouched_however_often(
    furnished_clone: Clone,
) -> None:
    before = furnished_clone.status()
    furnished_clone.edit("params.toml", "sample = 0.80", "sample = 0.99")
    for _ in range(2):
        completed = furnished_clone.cli("refresh", "--json")
        assert completed.returncode == 1
        found = json.loads(completed.stdout)
        assert found["status"] == "failure"
        assert found["materialized"] == []
        assert "evaluation is refused and not published" in found["error"]
        assert set(found["fresh"]) == ALL - {"evaluation", "champion_model", "report"}
        standings = furnished_clone.status()
        assert standings["evaluation"]["status"] == "refused"
        assert standings["evaluation"]["causes"] == [
            "refused by its check above_floor: accuracy 0.8720, floor 0.9900",
            "params changed: floor.sample 0.8 -> 0.99",
        ]
        assert standings["report"]["status"] == "waiting"
        for asset in ALL:
            assert standings[asset]["data_version"] == before[asset]["data_version"]
    furnished_clone.edit("params.toml", "sample = 0.99", "sample = 0.5")
    assert furnished_clone.status()["evaluation"]["status"] == "stale"
    assert furnished_clone.json("refresh")["materialized"] == ["evaluation"]


def wave_of(process_lines: Callable[[], str], asset: str) -> None:
    while f"making {asset}" not in (line := process_lines()):
        assert line, f"ended before it came to {asset}"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("asset", ["test_set", "sgd_model", "evaluation"])
def test_an_interrupted_refresh_goes_on_where_it_was(
    how: signal.Signals, asset: str, clone: Clone
) -> None:
    process = clone.popen("refresh", "--json")
    assert process.stderr is not None
    wave_of(process.stderr.readline, asset)
    time.sleep(0.3)
    process.send_signal(how)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    done = {key for key, found in clone.status().items() if found["status"] == "fresh"}
    assert "raw_mnist" in done
    if how is signal.SIGINT:
        interrupted = json.loads(out)
        assert interrupted["status"] == "failure"
        assert set(interrupted["materialized"]) == done
    found = clone.json("refresh")
    assert set(found["materialized"]) == ALL - done
    assert set(found["fresh"]) == ALL
    runs = [entry["run_id"] for entry in clone.json("history")["materializations"]]
    made = [entry["asset"] for entry in clone.json("history")["materializations"]]
    assert sorted(made) == sorted(ALL), "nothing was computed twice"
    assert len(set(runs)) >= 6
