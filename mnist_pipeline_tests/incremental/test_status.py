"""`status`: the state of each asset and why, also after deletions, failures and kills."""

import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline_tests.incremental.conftest import ALL, Toy, key, newest_of, of

FRESH = dict.fromkeys(ALL, "fresh")
DOWNSTREAM_OF_LEFT = {"total": "waiting", "summary": "waiting"}


def test_what_was_never_materialized_is_missing(new_toy: Toy) -> None:
    for found in new_toy.status().values():
        assert (found.status, found.causes) == ("missing", ["never materialized"])
        assert (found.data_version, found.code_version, found.path) == (None, None, None)


def test_what_is_up_to_date_has_its_versions_and_its_file(toy: Toy) -> None:
    code_versions = toy.code_versions()
    for name, found in toy.status(verify=True).items():
        assert (found.status, found.causes) == ("fresh", [])
        assert found.code_version == code_versions[name]
        assert found.data_version
        assert Path(found.path or "").is_file()


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "cause"),
    [
        ("right.py", "[-number", "[-3 * number", "group/right", "code changed in toy/right.py"),
        ("page/page.html", "<p>", "<b>", "summary", "code changed in toy/page/page.html"),
        (
            "right.py", "from .helpers", "from . import more\nfrom .helpers",
            "group/right", "code now used: toy/more.py",
        ),
        ("total.py", '{"right"', '{"left": dg.AssetKey("source"), "right"', "total",
         "it has a new input: source"),
        ("total.py", '{"right"', '{"left": dg.AssetKey("source"), "right"', "total",
         "it no longer has the input left"),
        ("total.py", "import pandas as pd", "import pandas as pd\nimport yaml", "total",
         "library changed: PyYAML (absent) -> 6.0"),
    ],
)  # fmt: skip
def test_the_cause_of_a_stale_asset_is_named(
    file: str, old: str, new: str, name: str, cause: str, toy: Toy
) -> None:
    (toy.folder / "toy" / "more.py").write_text("MORE = 1\n")
    toy.edit(file, old, new)
    found = toy.status()[name]
    assert found.status == "stale"
    assert cause in found.causes


@pytest.mark.parametrize("first", [True, False])
def test_what_another_run_records_while_the_state_is_read_was_not_deleted(
    first: bool, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.edit("total.py", "return int(left", "raise ValueError('wrong')\n    return int(left")
    assert not toy.run("total", force=True).success
    toy.edit("total.py", "raise ValueError('wrong')\n    ", "")
    read = dg.DagsterInstance.get_asset_records

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(dg.DagsterInstance, "get_asset_records", read)
        found = None if first else read(*arguments)
        assert toy.run(*ALL, force=True).success
        return found or read(*arguments)

    monkeypatch.setattr(dg.DagsterInstance, "get_asset_records", overtaken)
    with toy.session() as session:
        found = session.status()
    assert {key: one.causes for key, one in found.items() if one.causes} == {}


def test_a_changed_param_is_named_with_both_values_and_downstream_waits(toy: Toy) -> None:
    toy.set_factor(3)
    status = toy.status()
    assert {name: one.status for name, one in status.items()} == (
        FRESH | {"left": "stale"} | DOWNSTREAM_OF_LEFT
    )
    assert status["left"].causes == ["setting changed: factor 2 -> 3"]
    assert status["total"].causes == ["upstream is not up to date: left"]
    assert status["summary"].causes == ["upstream is not up to date: total"]


def test_a_newer_input_makes_stale_only_if_its_content_is_another(toy: Toy) -> None:
    assert toy.run("source", "left", force=True).success
    assert toy.words() == FRESH
    toy.set_numbers(5)
    assert toy.run("source").success
    status = toy.status()
    assert status["left"].causes == status["group/right"].causes == ["source is newer"]
    assert status["source"].status == "fresh"


def test_after_the_run_that_made_everything_is_deleted_all_is_missing_and_refresh_repairs_it(
    toy: Toy,
) -> None:
    before = toy.versions()
    with toy.session() as session:
        [run] = session.instance.get_runs()
        session.instance.delete_run(run.run_id)
        for found in of(session).values():
            assert found.status == "missing"
            assert found.causes == [
                f"its newest materialization was deleted with run {run.run_id}",
            ]
            assert found.data_version is None
        assert sorted(session.plan(session.status())) == sorted(ALL)
        failed = session.run([key("total")])
        assert (
            failed.error
            == "total: group/right was never materialized: materialize group/right first."
        )
        done = session.refresh()
    assert (done.error, done.computed, sorted(done.reused)) == (
        None, ["source"], sorted({*ALL} - {"source"})
    )  # fmt: skip
    assert toy.calls() == ["source"]
    assert toy.words(verify=True) == FRESH
    assert toy.versions() == before


def test_that_the_newest_run_of_an_asset_was_deleted_is_reported_and_repaired(toy: Toy) -> None:
    first = toy.versions()["left"]
    toy.set_factor(3)
    done = toy.run("left")
    second = toy.versions()["left"]
    with toy.session() as session:
        session.instance.delete_run(done.run_id or "")
        found = of(session)["left"]
        assert (found.status, found.data_version) == ("stale", first)
        assert f"its newest materialization was deleted with run {done.run_id}" in found.causes
    toy.calls()
    assert toy.refresh().reused == ["left"]
    assert toy.versions()["left"] == second
    assert toy.words() == FRESH
    # also where the one before is what would be computed now
    with toy.session() as session:
        session.instance.delete_run(newest_of(session, "left").run_id)
    toy.set_factor(2)
    assert toy.words()["left"] == "stale"
    toy.calls()
    assert toy.refresh().success
    assert toy.calls() == []
    assert (toy.versions()["left"], toy.words()) == (first, FRESH)


def test_an_asset_whose_last_attempt_failed_is_materialized_again_by_reuse(toy: Toy) -> None:
    toy.edit("left.py", "numbers = [", "numbers = [0 // 0] + [")
    failed = toy.run("left", "total")
    assert failed.error == "left: integer division or modulo by zero"
    toy.edit("left.py", "numbers = [0 // 0] + [", "numbers = [")
    toy.calls()
    status = toy.status()
    for name in ("left", "total"):
        assert status[name].status == "stale"
        assert status[name].causes == [
            f"the last run that was to compute it failed: {failed.run_id}"
        ]
    assert status["summary"].causes == ["upstream is not up to date: total"]
    done = toy.refresh()
    assert (done.error, done.computed, done.reused) == (None, [], ["left", "total", "summary"])
    assert toy.calls() == []
    assert toy.words() == FRESH
    assert toy.refresh().run_id is None


def test_a_failed_attempt_whose_run_was_deleted_is_forgotten(toy: Toy) -> None:
    toy.edit("left.py", "numbers = [", "numbers = [0 // 0] + [")
    failed = toy.run("left")
    toy.edit("left.py", "numbers = [0 // 0] + [", "numbers = [")
    with toy.session() as session:
        session.instance.delete_run(failed.run_id or "")
    assert toy.words() == FRESH


def test_wiped_assets_are_missing_and_come_back_by_reuse(toy: Toy) -> None:
    before = toy.versions()
    with toy.session() as session:
        session.instance.wipe_assets([key("left"), key("group/right")])
        found = of(session)
    for name in ("left", "group/right"):
        assert (found[name].status, found[name].causes) == ("missing", ["never materialized"])
    done = toy.refresh()
    assert (done.error, done.computed) == (None, [])
    assert sorted(done.reused) == ["group/right", "left", "summary", "total"]
    assert (toy.versions(), toy.words()) == (before, FRESH)


def test_a_materialization_that_names_no_file_is_missing_until_refresh(toy: Toy) -> None:
    with toy.session() as session:
        session.instance.report_runless_asset_event(dg.AssetMaterialization(key("left")))
        found = of(session)["left"]
        assert found.status == "missing"
        assert found.causes[0] == "its newest materialization was not made here and names no file"
        failed = session.run([key("total")])
        assert "the newest materialization of left was not made by this pipeline" in (
            failed.error or ""
        )
        assert session.refresh().success
    assert toy.words() == FRESH


def test_a_refusal_is_shown_though_the_clock_went_back(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.edit("numbers.py", "least: int = 1", "least: int = 9")
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() - 7200)
        assert not toy.run("left").success
    assert toy.status()["left"].causes[0] == "refused by its check not_empty: 3 numbers"


def test_a_refusal_that_was_overcome_is_history(toy: Toy) -> None:
    limits = "numbers.py", "least: int = 1", "least: int = 9"
    toy.edit(*limits)
    assert not toy.run("left").success
    refused = toy.status()["left"]
    assert refused.status == "refused"
    assert refused.causes[:2] == [
        "refused by its check not_empty: 3 numbers",
        "code changed in toy/numbers.py",
    ]
    toy.edit("numbers.py", "least: int = 9", "least: int = 1")
    assert toy.run("left").success
    assert toy.words()["left"] == "fresh"
    toy.edit(*limits)
    assert toy.words()["left"] == "stale", "it was not tried since"
