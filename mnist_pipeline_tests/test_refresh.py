"""What `refresh` recomputes after an edit or a refusal, and no more.

Each in a copy of the project in which everything was made from the sample.
"""

import gzip
import json
from pathlib import Path

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.openml_server import OpenML, serve
from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.test_pipeline import ASSETS

ALL = set(ASSETS)
SPLITS = {"train_set", "test_set"}
FROM_MODEL = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
DIGITS = "mnist_pipeline/digits"


def artifact(clone: Clone, asset: str) -> Path:
    """The only file of an asset."""
    [path] = clone.data.glob(f"{asset}/*/{ASSETS[asset]}")
    return path


def test_after_a_full_run_everything_is_fresh_and_nothing_is_made(furnished_forked: Forked) -> None:
    found = furnished_forked.json("refresh")
    assert (found["status"], found["materialized"]) == ("success", [])
    assert set(found["fresh"]) == ALL
    for asset, standing in furnished_forked.status("--verify").items():
        assert (standing["status"], standing["causes"]) == ("fresh", [])
        assert standing["path"] == str(artifact(furnished_forked, asset))
        assert standing["data_version"] == artifact(furnished_forked, asset).parent.name


def test_refresh_makes_everything_where_nothing_is(forked: Forked) -> None:
    assert {found["status"] for found in forked.status().values()} == {"missing"}
    plan = forked.json("refresh", "--dry-run")
    assert plan["first_wave"] == ["raw_mnist"]
    assert set(plan["may_follow"]) == ALL - {"raw_mnist"}
    assert not list(forked.data.glob("raw_mnist/*"))
    found = forked.json("refresh")
    assert set(found["materialized"]) == set(found["fresh"]) == ALL
    assert forked.json("refresh")["materialized"] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "made", "cause"),
    [
        pytest.param(
            f"{DIGITS}/training.py", "    classes = np", "    # why\n    classes = np", set(), "",
            id="a comment in the classifier",
        ),
        pytest.param(
            f"{DIGITS}/metrics.py", "least_accuracy: float) -> CheckResult",
            'least_accuracy: "float") -> "CheckResult"',
            set(), "", id="annotations of a function",
        ),
        pytest.param(
            f"{DIGITS}/figures.py", '"PuOr"', '"RdBu"', {"report"},
            f"report: code changed in {DIGITS}/figures.py", id="a colour in the figures",
        ),
        pytest.param(
            "mnist_pipeline/params.py", "tol: float = Field(0.001", "tol: float = Field(0.002",
            FROM_MODEL, "sgd_model: params changed: model.tol 0.001 -> 0.002",
            id="a default in a params class",
        ),
        pytest.param(
            "params.toml", 'preset = "fast"\n', 'preset = "fast"\nalpha = 1e-6\n', FROM_MODEL,
            "sgd_model: params changed: model.alpha 1e-05 -> 1e-06", id="model.alpha",
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


def test_what_waits_says_for_what(furnished_forked: Forked) -> None:
    furnished_forked.edit("params.toml", "random_state = 42\n\n[validation]", "\n[validation]")
    furnished_forked.edit("params.toml", 'preset = "fast"', 'preset = "fast"\nrandom_state = 1')
    standings = furnished_forked.status()
    assert {asset: found["status"] for asset, found in standings.items()} == (
        dict.fromkeys(ALL, "fresh")
        | {"sgd_model": "stale"}
        | dict.fromkeys(FROM_MODEL - {"sgd_model"}, "waiting")
    )
    assert standings["evaluation"]["causes"] == ["predictions first: not fresh"]
    plan = furnished_forked.json("refresh", "--dry-run")
    assert plan["first_wave"] == ["sgd_model"]
    assert set(plan["may_follow"]) == FROM_MODEL - {"sgd_model"}
    assert plan["materialized"] == []


def test_the_same_digits_under_another_gzip_framing_make_nothing_else(
    forked: Forked, small_arff: bytes
) -> None:
    forked.edit("params.toml", "openml = 0.85", "openml = 0.5")
    openml = OpenML.of(small_arff)
    with serve(openml):
        variables = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": openml.url}
        assert set(forked.json("refresh", **variables)["materialized"]) == ALL
        [archive] = forked.data.glob("raw_mnist/*/mnist_784.arff.gz")
        first = archive.read_bytes()
        archive.unlink()
        openml.packed = gzip.compress(small_arff, 9, mtime=1)
        found = forked.json("refresh", **variables)
        assert found["materialized"] == ["raw_mnist"]
        assert openml.downloads == 2
        assert archive.read_bytes() == openml.packed != first
        asked = len(openml.requests)
        assert forked.json("refresh", **variables)["materialized"] == []
        assert len(openml.requests) == asked, "a fresh archive is nothing to ask the network for"


def test_a_refusal_leaves_everything_downstream_untouched_however_often(
    furnished_forked: Forked,
) -> None:
    before = furnished_forked.status()
    [made] = furnished_forked.data.glob("evaluation/*/evaluation.json")
    accuracy = json.loads(made.read_bytes())["accuracy"]
    furnished_forked.edit("params.toml", "least_accuracy = 0.5", "least_accuracy = 0.999")
    for _ in range(2):
        completed = furnished_forked.cli("refresh", "--json")
        assert completed.returncode == 1
        found = json.loads(completed.stdout)
        assert found["status"] == "failure"
        assert found["materialized"] == []
        assert "evaluation is refused and not published" in found["error"]
        assert set(found["fresh"]) == ALL - {"evaluation", "champion_model", "report"}
        standings = furnished_forked.status()
        assert standings["evaluation"]["status"] == "refused"
        assert standings["evaluation"]["causes"] == [
            "refused by its check plausible: "
            f"accuracy {accuracy:.4f}, at least 0.9990 is plausible",
            "params changed: evaluation.least_accuracy 0.5 -> 0.999",
        ]
        assert standings["report"]["status"] == "waiting"
        for asset in ALL:
            assert standings[asset]["data_version"] == before[asset]["data_version"]
    furnished_forked.edit("params.toml", "least_accuracy = 0.999", "least_accuracy = 0.4")
    assert furnished_forked.status()["evaluation"]["status"] == "stale"
    assert furnished_forked.json("refresh")["materialized"] == ["evaluation"]
