"""Reuse inside a run, and `refresh`: what is computed, what is reused, what is left untouched."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.incremental import RunResult, asset, codecs
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, newest_of, run_ids

FROM_LEFT = ["left", "total", "summary"]


def did(done: RunResult) -> tuple[list[str], list[str]]:
    """What a run that must end well computed and reused."""
    assert done.success, done.error
    return done.computed, done.reused


def test_refresh_computes_everything_once_in_one_run_where_nothing_is(new_toy: Toy) -> None:
    assert new_toy.words() == dict.fromkeys(ALL, "missing")
    done = new_toy.refresh()
    assert done.success
    assert sorted(done.computed) == sorted(ALL)
    assert done.reused == []
    assert new_toy.calls() == sorted(ALL)
    with new_toy.session() as session:
        assert run_ids(session) == [done.run_id]
    assert new_toy.path("summary").read_text() == "<p>6 of 2 4 6</p>\n"
    assert new_toy.words() == dict.fromkeys(ALL, "fresh")


def test_refresh_of_what_is_up_to_date_is_no_run(toy: Toy) -> None:
    done = toy.refresh()
    assert (done.run_id, done.computed, done.reused, done.error) == (None, [], [], None)
    with toy.session() as session:
        assert len(run_ids(session)) == 1
    assert toy.calls() == []


def test_the_plan_is_what_is_not_up_to_date_and_all_downstream(toy: Toy) -> None:
    toy.set_factor(3)
    with toy.session() as session:
        assert session.plan(session.status()) == FROM_LEFT
        assert len(run_ids(session)) == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "computed", "reused"),
    [
        pytest.param(
            "numbers.py", "found += [int(line)]", "found.append(int(line))",
            ["left", "group/right"], ["total", "summary"], id="a refactoring without effect",
        ),
        pytest.param(
            "right.py", "[-number", "[-2 * number",
            ["group/right", "total", "summary"], [], id="a change of values",
        ),
        pytest.param(
            "right.py", "parse(source)]", "parse(source)][::-1]",
            ["group/right", "total"], ["summary"], id="values whose sum is the same",
        ),
        pytest.param(
            "page/page.html", "<p>", "<b>", ["summary"], [], id="the last step's data file",
        ),
        pytest.param("display.py", "how many", "count", [], [], id="what is shown"),
    ],
)  # fmt: skip
def test_an_edit_computes_what_it_reaches_and_stops_where_results_are_the_same_in_one_run(
    file: str, old: str, new: str, computed: list[str], reused: list[str], toy: Toy
) -> None:
    toy.edit(file, old, new)
    with toy.session() as session:
        before = len(run_ids(session))
        done = session.refresh()
        assert (set(done.computed), set(done.reused)) == (set(computed), set(reused))
        assert len(run_ids(session)) - before == (1 if computed else 0)
        assert session.refresh().run_id is None
    assert toy.calls() == sorted(computed)
    assert toy.words() == dict.fromkeys(ALL, "fresh")


def test_an_edit_undone_computes_nothing_and_brings_the_earlier_results_back(toy: Toy) -> None:
    first = toy.versions()
    for factor in (3, 4):
        toy.set_factor(factor)
        assert did(toy.refresh()) == (FROM_LEFT, [])
    toy.calls()
    # not the newest results, nor those before
    toy.set_factor(2)
    assert did(toy.refresh()) == ([], FROM_LEFT)
    assert toy.calls() == []
    assert toy.versions() == first
    assert toy.path("summary").read_text() == "<p>6 of 2 4 6</p>\n"


def test_a_run_of_everything_computes_as_little_as_refresh(toy: Toy) -> None:
    toy.edit("right.py", "[-number", "[-2 * number")
    computed, reused = did(toy.run())
    # the source is asked each time
    assert sorted(computed) == ["group/right", "source", "summary", "total"]
    assert reused == ["left"]


def test_a_reused_result_is_recorded_as_it_was_and_names_the_run_that_computed_it(
    toy: Toy,
) -> None:
    with toy.session() as session:
        first = newest_of(session, "left")
        assert first.value("how many") == 3
        assert first.value("seconds") >= 0
        assert first.value("reused_from") is None
        done = session.run([first.key])
        again = newest_of(session, "left")
        checks = {
            one.check_name: one.passed for one in _evaluations(session.instance, done.run_id or "")
        }
    assert done.reused == ["left"]
    assert again.storage_id > first.storage_id
    assert again.value("reused_from") == first.run_id
    assert (again.data_version, again.code_version) == (first.data_version, first.code_version)
    assert again.inputs == first.inputs
    assert again.metadata.keys() == first.metadata.keys() | {"reused_from"}
    for name in first.metadata.keys() - {"path"}:  # the toy was copied
        assert again.metadata[name] == first.metadata[name]
    assert again.value("path") == str(toy.path("left"))
    names = {"not_empty", "small", "deterministic", "file_is_intact"}
    assert checks == dict.fromkeys(names, True)


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [entry.get_dagster_event().asset_check_evaluation_data for entry in logs]


def test_a_warning_is_recorded_again_with_the_result_that_it_is_of(toy: Toy) -> None:
    toy.set_factor(50)
    assert did(toy.refresh()) == (FROM_LEFT, [])
    with toy.session() as session:
        done = session.run([dg.AssetKey("left")])
        [small] = [
            one
            for one in _evaluations(session.instance, done.run_id or "")
            if one.check_name == "small"
        ]
    assert did(done) == ([], ["left"])
    assert (small.passed, small.description) == (False, "at most 150")
    assert small.severity is dg.AssetCheckSeverity.WARN
    assert toy.words() == dict.fromkeys(ALL, "fresh")


@pytest.mark.parametrize("how", ["force", "tag", "job"])
def test_what_is_forced_is_computed_though_nothing_changed(how: str, toy: Toy) -> None:
    before = toy.versions()
    with toy.session() as session:
        if how == "job":
            job = session.pipeline.definitions.resolve_job_def("recompute_all")
            assert job.execute_in_process(instance=session.instance).success
        elif how == "tag":
            assert sorted(session.run(tags={"toy/force": "true"}).computed) == sorted(ALL)
        else:
            assert sorted(session.run(force=True).computed) == sorted(ALL)
        again = newest_of(session, "left").value("reused_from")
    assert again is None
    assert toy.calls() == sorted(ALL)
    assert toy.versions() == before
    assert toy.refresh().run_id is None


def test_another_content_from_the_same_inputs_fails_a_warning_check_and_is_passed_on(
    toy: Toy,
) -> None:
    toy.edit("right.py", "[-number", "[int.from_bytes(__import__('os').urandom(6))] + [-number")
    assert did(toy.refresh())[0]
    first = toy.versions()
    assert did(toy.run("group/right"))[1] == ["group/right"], "it is reused as any other"
    done = toy.run(force=True)
    assert did(done) == (done.computed, [])
    with toy.session() as session:
        found = {
            one.asset_key.to_user_string(): one
            for one in _evaluations(session.instance, done.run_id or "")
            if one.check_name == "deterministic"
        }
    now = toy.versions()
    assert {name for name in ALL if now[name] != first[name]} == {"group/right", "total", "summary"}
    # downstream the inputs are others, so that nothing is known of their steps
    assert {name: one.passed for name, one in found.items()} == {
        "left": True, "group/right": False, "total": True, "summary": True
    }  # fmt: skip
    assert found["group/right"].severity is dg.AssetCheckSeverity.WARN
    assert "is not deterministic" in (found["group/right"].description or "")
    assert toy.words() == dict.fromkeys(ALL, "fresh")


@pytest.mark.parametrize("one_by_one", [False, True])
def test_inputs_with_equal_results_downstream_never_share_a_result_that_shows_them(
    one_by_one: bool, toy: Toy
) -> None:
    def run() -> None:
        for names in [[name] for name in ALL] if one_by_one else [[]]:
            assert toy.run(*names).success

    first = toy.versions()
    toy.set_numbers(3, 2, 1)
    run()
    second = toy.versions()
    assert second["total"] == first["total"]
    assert toy.path("summary").read_text() == "<p>6 of 6 4 2</p>\n"
    toy.set_numbers(1, 2, 3)
    toy.calls()
    run()
    assert toy.calls() == ["source"]
    assert toy.versions() == first
    assert toy.path("summary").read_text() == "<p>6 of 2 4 6</p>\n"


def test_a_step_reads_the_version_that_its_direct_input_was_computed_from(toy: Toy) -> None:
    toy.set_factor(3)
    assert toy.run("left").success
    # total was computed from the left before
    assert toy.run("summary", force=True).success
    assert toy.path("summary").read_text() == "<p>6 of 2 4 6</p>\n"
    assert toy.words()["summary"] == "waiting"


@pytest.mark.parametrize("how", ["file", "event"])
def test_what_is_gone_further_upstream_is_named_by_the_step_and_repaired_by_refresh(
    how: str, toy: Toy
) -> None:
    left = toy.path("left")
    if how == "file":
        left.unlink()
    else:
        with toy.session() as session:
            session.instance.wipe_assets([dg.AssetKey("left")])
    failed = toy.run("summary", force=True)
    assert "left" in (failed.error or "")
    assert "is gone: materialize left and what is downstream of it" in (failed.error or "")
    assert toy.words()["left"] == "missing"
    toy.calls()
    done = toy.refresh()
    assert done.success
    assert toy.calls() == (["left"] if how == "file" else [])
    assert left.exists()
    assert toy.words() == dict.fromkeys(ALL, "fresh")
    assert toy.run("summary", force=True).success


def test_a_result_whose_file_is_gone_or_damaged_is_not_reused(toy: Toy) -> None:
    toy.set_factor(3)
    assert toy.refresh().success
    for damaged in toy.data.glob("left/*/*"):
        damaged.write_bytes(damaged.read_bytes()[::-1])
    for gone in toy.data.glob("total/*/*"):
        gone.unlink()
    toy.set_factor(2)
    computed, reused = did(toy.refresh(verify=True))
    assert (computed, reused) == (["left", "total"], ["summary"])
    assert toy.words(verify=True) == dict.fromkeys(ALL, "fresh")


@pytest.mark.parametrize("name", ["left", "group/right"])
def test_a_version_that_a_blocking_check_refused_is_never_an_input_nor_reused(
    name: str, toy: Toy
) -> None:
    asset = dg.AssetKey.from_user_string(name)
    sound = toy.folder / "sound"

    @dg.asset_check(asset=asset, blocking=True)
    def by_hand() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=sound.exists(), description="looked at it")

    more: dict[str, Any] = {"checks": [by_hand]}
    before = toy.versions()
    toy.edit("numbers.py", "int(line)", "int(line) + 1")
    for _ in range(2):
        toy.calls()
        done = toy.refresh(**more)
        assert not done.success
        assert name in toy.calls(), "what was refused is not reused"
        status = toy.status(**more)
        assert status[name].status == "refused"
        assert status[name].causes == ["refused by its check by_hand: looked at it"]
        for downstream in ("total", "summary"):
            assert status[downstream].data_version == before[downstream]
        failed = toy.run("total", **more)
        assert f"{name} {status[name].data_version} was refused by by_hand" in (failed.error or "")
    sound.touch()
    assert toy.refresh(**more).success
    assert toy.words(**more) == dict.fromkeys(ALL, "fresh")


def test_what_the_steps_own_blocking_check_refuses_is_not_published(toy: Toy) -> None:
    before = toy.versions()
    toy.set_numbers()
    done = toy.run()
    assert done.error == "left: left is refused and not published. not_empty: 0 numbers"
    status = toy.status()
    assert (status["left"].status, status["left"].data_version) == ("refused", before["left"])
    assert status["left"].causes == [
        "refused by its check not_empty: 0 numbers",
        "source is newer",
        f"the last run that was to compute it failed: {done.run_id}",
    ]
    assert status["summary"].data_version == before["summary"]
    assert len(list(toy.data.glob("left/*/*"))) == 1
    toy.set_numbers(1, 2, 3)
    assert toy.run("source").success
    assert toy.status()["left"].status == "stale"
    toy.calls()
    assert toy.refresh().success
    assert toy.calls() == []
    assert toy.versions() == before


def test_an_error_of_the_domain_ends_as_one_clear_message(toy: Toy) -> None:
    text = "the numbers are empty: serve others"
    toy.edit(
        "right.py", 'called("group/right")',
        "from mnist_pipeline.incremental import PipelineError\n\n"
        f"    raise PipelineError('{text}')",
    )  # fmt: skip
    done = toy.refresh()
    assert done.error == f"group/right: {text}"


def test_a_pipeline_of_one_asset_refreshes(new_toy: Toy) -> None:
    source = next(one for one in new_toy.load().assets if one.name == "source")
    for reuse in (False, True):
        more: dict[str, Any] = {"assets": [replace(source, reuse=reuse)]}
        assert new_toy.run(**more).success
        new_toy.path("source").unlink()
        assert did(new_toy.refresh(**more)) == (["source"], [])
        assert new_toy.refresh(**more).run_id is None


def test_params_in_the_launchpad_are_refused_before_anything_runs(toy: Toy) -> None:
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        for config in (
            {"resources": {"factor": {"config": 3}}},
            {"ops": {"left": {"config": {"factor": 3}}}},
        ):
            with pytest.raises(dg.DagsterInvalidConfigError):
                job.execute_in_process(run_config=config, instance=session.instance)
        assert len(run_ids(session)) == 1
    assert toy.calls() == []


def test_assets_without_a_codec_read_values_of_the_pipeline(toy: Toy) -> None:
    with toy.session() as session:
        definitions = session.pipeline.definitions

        def value(name: str) -> object:
            asset = dg.AssetKey.from_user_string(name)
            return definitions.load_asset_value(asset, instance=session.instance)

        assert value("source") == "1\n2\n3\n"
        assert value("left")["number"].tolist() == [2, 4, 6]  # type: ignore[index]
        assert value("group/right") == [-1, -2, -3]
        assert value("total") == 6
        assert str(value("summary")).startswith("<p>6")


def test_every_file_lies_at_its_digest(toy: Toy) -> None:
    names = ["numbers.txt", "left.parquet", "right.json", "total6.txt", "summary.html"]
    for name, filename in zip(ALL, names, strict=True):
        path = Path(toy.status()[name].path or "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path == toy.data / name / digest / filename


def test_an_asset_with_partitions_is_refused() -> None:
    with pytest.raises(TypeError, match="no partitions"):
        asset(codecs.text("piece.txt"), partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
