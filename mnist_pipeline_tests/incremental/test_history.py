"""History, and what is kept of it: `history`, garbage collection, and the runs that are pruned."""

import os
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import dagster as dg
import pytest

from mnist_pipeline.incremental import Pipeline, Session, _dagster, retention, runs
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, key, newest_of, run_ids


def test_history_lists_versions_triggers_and_what_was_reused_newest_first(toy: Toy) -> None:
    toy.set_factor(3)
    with toy.session() as session:
        second = session.refresh(trigger="a change")
    toy.set_factor(2)
    with toy.session() as session:
        third = session.refresh()
        everything = session.history(limit=1000)
        left = session.history([key("left")])
        status = session.status()[key("left")]
    assert [one.trigger for one in left] == ["refresh", "a change", "refresh"]
    assert [one.run_id for one in left] == [third.run_id, second.run_id, left[2].run_id]
    assert [one.reused_from for one in left] == [left[2].run_id, None, None]
    assert left[0].data_version == left[2].data_version != left[1].data_version
    assert (left[0].data_version, left[0].code_version) == (
        status.data_version,
        status.code_version,
    )
    assert left[0].value("how many") == 3
    assert len(everything) == len(ALL) + 3 + 3
    times = [one.timestamp for one in everything]
    assert times == sorted(times, reverse=True)
    assert {one.asset for one in everything} == set(ALL)


def test_history_of_an_asset_whose_key_has_several_parts(toy: Toy) -> None:
    with toy.session() as session:
        [wanted] = session.select('key:"group/right"')
        [event] = session.history([wanted])
        assert session.history([wanted], limit=0) == []
    assert event.asset == "group/right"


def test_what_dagster_tags_names_the_trigger(toy: Toy) -> None:
    tags = {
        "schedule nightly": {"dagster/schedule_name": "nightly"},
        "sensor keep_fresh": {"dagster/sensor_name": "keep_fresh"},
        "the UI": {"dagster/from_ui": "true"},
    }
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        for trigger, tag in tags.items():
            assert job.execute_in_process(instance=session.instance, tags=tag).success
            assert session.history(limit=1)[0].trigger == trigger
        job = session.pipeline.definitions.resolve_job_def("refresh")
        assert job.execute_in_process(instance=session.instance).success
        assert session.history(limit=1)[0].trigger == "a dagster command"
        again = {"dagster/parent_run_id": "x", "toy/trigger": "a copy"}
        assert job.execute_in_process(instance=session.instance, tags=again).success
        assert session.history(limit=1)[0].trigger == "re-execution"


def files(toy: Toy, name: str) -> set[str]:
    """The content of each file of an asset in the store."""
    return {path.parent.name for path in (toy.data / name).glob("*/*") if path.is_file()}


def test_gc_keeps_what_the_newest_point_at_and_lists_before_it_removes(toy: Toy) -> None:
    first = files(toy, "left")
    for factor in (3, 4):
        toy.set_factor(factor)
        assert toy.refresh().success
    assert len(files(toy, "left")) == len(files(toy, "summary")) == 3
    unfinished = toy.data / "left" / f".v.{'0' * 32}.tmp"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    notes = toy.data / "left" / "notes"
    notes.mkdir()
    with toy.session() as session:
        plan = session.collect_garbage(keep=2)
        assert unfinished in {one.path for one in plan}
        assert sorted(Path(str(one.path)).parent.name for one in plan) == [
            "left", "left", "summary", "total"
        ]  # fmt: skip
        assert all(Path(str(one.path)).exists() for one in plan)
        assert session.collect_garbage(keep=2, dry_run=False) == plan
        assert not any(Path(str(one.path)).exists() for one in plan)
        assert session.collect_garbage(keep=2) == []
    assert notes.exists()
    assert not files(toy, "left") & first
    assert len(files(toy, "left")) == len(files(toy, "summary")) == 2
    assert len(files(toy, "group/right")) == len(files(toy, "source")) == 1
    assert toy.words(verify=True) == dict.fromkeys(ALL, "fresh")


def test_what_gc_removed_is_computed_again_when_it_is_wanted(toy: Toy) -> None:
    first = toy.versions()
    toy.set_factor(3)
    assert toy.refresh().success
    with toy.session() as session:
        assert len(session.collect_garbage(keep=1, dry_run=False)) == 3
    toy.set_factor(2)
    toy.calls()
    done = toy.refresh()
    assert (done.computed, done.reused) == (["left", "total", "summary"], [])
    assert toy.calls() == ["left", "summary", "total"]
    assert toy.versions() == first


def test_gc_removes_the_results_whose_files_it_removed_and_no_others(toy: Toy) -> None:
    def results(session: Session) -> set[str]:
        names = _dagster.values(session.instance, "incremental/results/")
        found = [name.split("/", 2)[2].rpartition("/")[0] for name in names]
        return {f"{name} {found.count(name)}" for name in found}

    toy.set_factor(3)
    assert toy.refresh().success
    # the newest result of what is never reused is recorded too
    two = {"source 1", "left 2", "group/right 1", "total 2", "summary 2"}
    with toy.session() as session:
        assert results(session) == two
        session.collect_garbage(keep=1, dry_run=True)
        assert results(session) == two
        session.collect_garbage(keep=1, dry_run=False)
        one = {"left 1", "group/right 1", "total 1", "summary 1"}
        assert results(session) == {*one, "source 1"}


def test_gc_keeps_what_an_asset_points_at(toy: Toy) -> None:
    first = toy.versions()["left"]
    for factor in (3, 4):
        toy.set_factor(factor)
        assert toy.refresh().success
    with toy.session() as session:
        pointing_at = replace(session, pipeline=pointing(session.pipeline, first or ""))
        removed = pointing_at.collect_garbage(keep=1, dry_run=False)
    assert sorted(Path(str(one.path)).parent.name for one in removed) == [
        "left", "summary", "summary", "total", "total"
    ]  # fmt: skip
    toy.set_factor(2)
    assert toy.refresh().reused == ["left"]


def test_gc_of_an_asset_leaves_those_below_it_in_the_key_alone(new_toy: Toy) -> None:
    new_toy.edit("right.py", '["group", "right"]', '["left", "right"]')
    new_toy.edit("total.py", '["group", "right"]', '["left", "right"]')
    for factor in (2, 3):
        new_toy.set_factor(factor)
        assert new_toy.refresh().success
    with new_toy.session() as session:
        removed = session.collect_garbage(keep=1, dry_run=False)
        assert [one for one in removed if "right" in str(one.path)] == []
        assert len([one for one in removed if "/left/" in str(one.path)]) == 1
        found = {one.to_user_string(): is_.status for one, is_ in session.status().items()}
    assert found["left/right"] == "fresh"


def test_gc_removes_nothing_that_another_history_records(toy: Toy) -> None:
    with (
        toy.session(home=toy.folder / "elsewhere") as session,
        pytest.raises(StoreError, match="elsewhere has no record of them"),
    ):
        session.collect_garbage(keep=1, dry_run=False)
    assert toy.words() == dict.fromkeys(ALL, "fresh")


def test_gc_looks_past_materializations_that_name_no_file(toy: Toy) -> None:
    with toy.session() as session:
        session.instance.report_runless_asset_event(dg.AssetMaterialization(key("left")))
        assert session.collect_garbage(keep=2, dry_run=False) == []
    assert len(files(toy, "left")) == 1


def test_gc_stops_when_a_run_began_meanwhile(toy: Toy) -> None:
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        run = session.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        with pytest.raises(StoreError, match="a run began meanwhile"):
            retention.collect(session, keep=1, remove=True)
        assert retention.collect(session, keep=1, remove=False) == []
        session.instance.report_run_failed(run)
        assert retention.collect(session, keep=1, remove=True) == []


def test_gc_does_not_mind_a_run_that_is_queued_while_no_daemon_starts_it(toy: Toy) -> None:
    toy.set_factor(3)
    toy.run("left")
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        [earlier] = session.instance.get_runs(limit=1)
        session.instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.QUEUED,
            remote_job_origin=earlier.remote_job_origin,
        )
        removed = session.collect_garbage(keep=1, dry_run=False)
    assert [Path(str(one.path)).parent.name for one in removed] == ["left"]


def test_gc_of_a_file_that_a_later_result_shares_keeps_it(toy: Toy) -> None:
    # total is the same for another order of the numbers
    toy.set_numbers(3, 2, 1)
    assert toy.run().success
    with toy.session() as session:
        removed = session.collect_garbage(keep=1, dry_run=False)
    assert "total" not in {Path(str(one.path)).parent.name for one in removed}
    assert toy.words(verify=True) == dict.fromkeys(ALL, "fresh")


def nothing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "RUN_DAYS", -1)
    monkeypatch.setattr(retention, "RUN_MATERIALIZATIONS", 1)


def test_old_runs_go_with_their_logs_but_not_those_of_the_newest_materializations(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = toy.versions()
    with toy.session() as session, monkeypatch.context() as later:
        nothing_is_young(later)
        [first] = run_ids(session)
        assert session.prune(dry_run=False) == []
    toy.set_factor(3)
    other = toy.run("left")
    toy.set_factor(2)
    again = toy.run("left")
    assert again.reused == ["left"]
    toy.set_numbers()
    toy.edit("source.py", "numbers_file.read_text()", "1 // 0")
    failed = toy.run("source")
    toy.edit("source.py", "1 // 0", "numbers_file.read_text()")

    @dg.op
    def of_another_project() -> None:
        pass

    @dg.job
    def foreign() -> None:
        of_another_project()

    with toy.session() as session:
        theirs = foreign.execute_in_process(instance=session.instance)
        home = toy.folder / "home"
        logs = home / "storage" / (failed.run_id or "")
        assert logs.exists()
        nothing_is_young(monkeypatch)
        # neither the newest materializations, nor earlier ones of the same versions
        gone = {other.run_id, failed.run_id}
        assert set(session.prune()) == gone
        assert gone < set(run_ids(session)), "it was a dry run"
        assert set(session.prune(dry_run=False)) == gone
        assert set(run_ids(session)) == {first, again.run_id, theirs.run_id}
    assert not logs.exists()
    for one in (other, failed):
        assert not (home / "history" / "runs" / f"{one.run_id}.db").exists()
    assert toy.versions() == before
    # results outlive their runs
    toy.set_factor(3)
    toy.calls()
    assert toy.run("left").reused == ["left"]


class InAYear(datetime):
    """A clock that is a year ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=365)


@pytest.mark.parametrize(
    ("count", "most"), [(24, 11), pytest.param(1000, retention.MOST_RUNS, marks=pytest.mark.slow)]
)
def test_runs_and_their_logs_are_bounded_though_every_run_makes_the_same_version(
    toy: Toy, count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_RUNS", most)
    before = toy.versions()
    home = toy.folder / "home"
    sizes = []
    for _ in range(2):
        with toy.session() as session:
            for _ in range(count // 2):
                session.run([key("source")], force=True)
        sizes.append(sum(file.stat().st_size for file in home.rglob("*") if file.is_file()))
    with toy.session() as session:
        # the first run made the newest of the other assets
        assert len(run_ids(session)) == most + 1
        assert len(list((home / "history" / "runs").glob("*-*.db"))) == most + 1
        assert sizes[1] < 1.1 * sizes[0]
        monkeypatch.setattr(retention, "datetime", InAYear)
        session.run([key("source")])
        assert len(run_ids(session)) == retention.RUN_MATERIALIZATIONS + 1
    assert toy.versions() == before
    assert toy.words() == dict.fromkeys(ALL, "fresh")


def pointing(pipeline: Pipeline, version: str) -> Pipeline:
    """The pipeline, with a summary that points at a version of `left`."""
    *others, summary = pipeline.assets
    assert summary.name == "summary"
    summary = replace(summary, points_at=lambda instance: {key("left"): {version}})
    return replace(pipeline, assets=[*others, summary])


def test_pruning_leaves_what_is_unfinished_and_what_an_asset_points_at(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.set_factor(3)
    kept = toy.run("left")
    version = toy.made("left").data_version or ""
    toy.set_factor(4)
    assert toy.refresh().success
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        tags = runs.owner(session.instance, session.pipeline.store, "")
        begun = session.instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags=tags
        )
        nothing_is_young(monkeypatch)
        keeping = replace(session, pipeline=pointing(session.pipeline, version))
        assert keeping.prune(dry_run=False) == []
        assert kept.run_id in run_ids(session)
        assert len(session.prune(dry_run=False)) == 1
        assert kept.run_id not in run_ids(session)
        assert begun.run_id in run_ids(session)
        assert newest_of(session, "left").data_version != version
