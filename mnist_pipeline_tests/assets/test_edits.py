"""The table of edits: what a refresh computes, reuses and leaves untouched after each.

And what becomes of everything when the run that made it is deleted.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_pipeline.assets import champion_history
from mnist_pipeline.incremental.session import RunResult
from mnist_pipeline_tests.assets.test_pipeline import ASSETS
from mnist_pipeline_tests.conftest import House, open_house
from mnist_pipeline_tests.support.clones import Clone
from mnist_pipeline_tests.support.photos import enlarged

ALL = set(ASSETS)
SPLITS = {"train_set", "test_set"}
FROM_MODEL = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
DECISION = {"champion_model"}
"""Depends on its own past: it is decided whenever what is upstream of it is materialized."""


def runs(house: House) -> int:
    return house.instance.get_runs_count()


def refreshed(house: House, variables: dict[str, str]) -> RunResult:
    """Refresh, in one run or in none, after which everything is up to date."""
    before = runs(house)
    done = house.session(variables).refresh()
    assert done.error is None
    assert runs(house) - before == (0 if done.run_id is None else 1)
    session = house.session(variables)
    assert {one.status for one in session.status().values()} == {"fresh"}
    assert session.refresh().run_id is None
    return done


def columns(done: RunResult) -> tuple[set[str], set[str], set[str]]:
    """What was computed, reused and left untouched: each asset in one of them."""
    computed, reused = set(done.computed), set(done.reused)
    assert len(done.computed) + len(done.reused) == len(computed | reused)
    return computed, reused, ALL - computed - reused


@pytest.mark.parametrize(
    ("text", "computed", "cause"),
    [
        pytest.param(
            "[model]\nalpha = 1e-6\n", FROM_MODEL,
            "sgd_model: params changed: model.alpha 1e-05 -> 1e-06", id="model.alpha",
        ),
        pytest.param(
            "[validation]\nsize = 0.15\n", FROM_MODEL,
            "sgd_model: params changed: validation.size 0.1 -> 0.15", id="validation.size",
        ),
        pytest.param(
            "[split]\nrandom_state = 7\n", ALL - {"raw_mnist"},
            "train_set: params changed: split.random_state 42 -> 7", id="split.random_state",
        ),
    ],
)  # fmt: skip
def test_a_changed_param_computes_its_steps_and_what_changes_with_them_and_back_computes_nothing(
    text: str, computed: set[str], cause: str, furnished: House, params: Callable[[str], str]
) -> None:
    first = furnished.versions()
    changed = {"MNIST_PARAMS": params(text)}
    status = furnished.session(changed).status()
    causes = [f"{key.to_user_string()}: {why}" for key, one in status.items() for why in one.causes]
    assert cause in causes
    done = refreshed(furnished, changed)
    assert columns(done) == (computed, set(), ALL - computed)
    model = furnished.made("sgd_model").data_version
    assert model != first["sgd_model"]
    assert furnished.made("champion_model").metadata["model_version"] == model

    back = refreshed(furnished, {})
    assert columns(back) == (DECISION, computed - DECISION, ALL - computed)
    assert furnished.versions() == first
    champion = champion_history.champion_now(furnished.instance)
    assert champion.model_version == first["sgd_model"]


@pytest.fixture
def edited(
    furnished_clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Clone, House]]:
    """A copy of the project in which everything was made, and its records in this process."""
    with open_house(furnished_clone.data, monkeypatch) as house:
        yield furnished_clone, house


@pytest.mark.parametrize(
    ("file", "added", "computed", "reused"),
    [
        pytest.param(
            "digits/model/training.py", "\n\n# a comment\n", set(), set(), id="formatting"
        ),
        pytest.param(
            "digits/sources/arff.py", "\n_UNUSED = 1\n", SPLITS | DECISION,
            FROM_MODEL - DECISION, id="the ARFF reader, without effect",
        ),
        pytest.param(
            "digits/report/figures.py", "\n_UNUSED = 1\n", {"report"}, set(), id="the figures",
        ),
    ],
)  # fmt: skip
def test_an_edit_of_the_source_computes_the_steps_that_it_may_change_and_what_it_did_change(
    file: str, added: str, computed: set[str], reused: set[str], edited: tuple[Clone, House]
) -> None:
    clone, house = edited
    first, before = house.versions(), runs(house)
    path = clone.folder / "mnist_pipeline" / file
    path.write_text(path.read_text() + added)
    found = clone.json("refresh")
    assert (set(found["materialized"]), set(found["reused"])) == (computed, reused)
    assert len(found["materialized"]) == len(computed)
    assert set(found["fresh"]) == ALL
    assert runs(house) - before == (1 if computed else 0)
    assert house.versions() == first, "nothing comes out otherwise"


def test_after_the_run_that_made_everything_was_deleted_refresh_repairs_it_by_reuse(
    furnished: House, tmp_path: Path
) -> None:
    picture = tmp_path / "digit.png"
    enlarged(furnished.value("test_set").pixels[0], 280).save(picture)

    def predict() -> subprocess.CompletedProcess[str]:
        return furnished.cli("predict", str(picture), "--json")

    answer = predict().stdout
    first = furnished.versions()
    [run] = furnished.instance.get_runs()
    furnished.instance.delete_run(run.run_id)

    status = furnished.session().status()
    assert {one.status for one in status.values()} == {"missing"}
    for one in status.values():
        assert one.causes == [
            f"its newest materialization was deleted with run {run.run_id}",
        ]
    assert predict().stdout == answer, "the champion's file and its record are left"
    done = refreshed(furnished, {})
    assert columns(done) == ({"raw_mnist"} | DECISION, ALL - {"raw_mnist"} - DECISION, set())
    assert furnished.versions() == first
    assert predict().stdout == answer
