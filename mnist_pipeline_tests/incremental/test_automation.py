"""The sensor `keep_fresh` and the schedule, evaluated without a daemon."""

import dataclasses
import importlib
import uuid
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.incremental import PipelineError, RunResult, Session, retention, runs
from mnist_pipeline.incremental._dagster import check_results
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, key, newest_of, run_ids

FROM_LEFT = ["left", "total", "summary"]


def tick(session: Session) -> dg.RunRequest | dg.SkipReason:
    """What one evaluation of keep_fresh answers."""
    repository = session.pipeline.definitions.get_repository_def()
    found: Any = repository.get_sensor_def("keep_fresh")(
        dg.build_sensor_context(instance=session.instance)
    )
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def verified(session: Session, **tags: str) -> None:
    """Run the job `verify`, as the daemon launches it."""
    job = session.pipeline.definitions.resolve_job_def("verify")
    assert job.execute_in_process(instance=session.instance, tags=tags).success


def reason(session: Session) -> str:
    """Why one tick asks for nothing but the daily verification."""
    found = tick(session)
    if isinstance(found, dg.RunRequest) and found.job_name == "verify":
        verified(session, **{"dagster/run_key": found.run_key or ""})
        found = tick(session)
    assert isinstance(found, dg.SkipReason)
    return found.skip_message or ""


def launched(session: Session) -> RunResult:
    """What the run did that one tick asks for, as the daemon launches it."""
    found = tick(session)
    assert isinstance(found, dg.RunRequest), found
    tags = {"dagster/run_key": found.run_key or "", "dagster/sensor_name": "keep_fresh"}
    return session.run(found.asset_selection, tags=tags)


def test_keep_fresh_asks_for_one_run_of_what_is_not_up_to_date(toy: Toy) -> None:
    toy.set_factor(3)
    with toy.session() as session:
        found = tick(session)
        assert isinstance(found, dg.RunRequest)
        assert [one.to_user_string() for one in found.asset_selection or []] == FROM_LEFT
        again = tick(session)
        assert isinstance(again, dg.RunRequest)
        assert again.run_key == found.run_key, "the same state: the daemon launches one run"
        assert launched(session).computed == FROM_LEFT
        assert reason(session) == "all assets are up to date"


def test_keep_fresh_does_not_ask_again_for_what_failed_until_something_changes(toy: Toy) -> None:
    toy.edit("total.py", "return int(left", "raise ValueError('wrong')\n    return int(left")
    with toy.session() as session:
        done = launched(session)
        assert done.error == "total: wrong"
        for _ in range(3):
            why = reason(session)
            assert why.startswith(f"run {done.run_id} was asked for in this state already")
            assert "total: wrong" in why
        # a person materializes it: that fails, too
        by_hand = session.run([key("total")])
        assert not by_hand.success
        assert len(run_ids(session)) == 3
    toy.edit("total.py", "raise ValueError('wrong')\n    ", "")
    with toy.session() as session:
        assert launched(session).reused == ["total", "summary"]
        assert reason(session) == "all assets are up to date"


def test_keep_fresh_asks_again_when_the_same_is_lost_a_second_time(toy: Toy) -> None:
    for _ in range(2):
        toy.path("left").unlink()
        with toy.session() as session:
            assert launched(session).computed == ["left"]
            assert reason(session) == "all assets are up to date"


def test_keep_fresh_reads_all_files_once_a_day_and_replaces_one_that_is_damaged(toy: Toy) -> None:
    with toy.session() as session:
        whole = toy.path("left").read_bytes()
        toy.path("left").write_bytes(b"x" * len(whole))
        assert session.status()[key("left")].status == "fresh", "its size is right"
        asked = tick(session)
        assert isinstance(asked, dg.RunRequest)
        assert asked.job_name == "verify"
        verified(session, **{"dagster/run_key": asked.run_key or ""})
        found = session.status()[key("left")]
        assert found.status == "damaged"
        assert "left" in found.causes[0]
        assert launched(session).computed == ["left"]
        assert toy.path("left").read_bytes() == whole
        assert session.status()[key("left")].status == "fresh"
        assert reason(session) == "all assets are up to date"


def trials(toy: Toy) -> dict[str, Any]:
    """Two assets on request with the step of `left`, and one that is computed from both."""
    toy.load()
    modules = [importlib.import_module(f"toy.{name}") for name in ("left", "summary")]
    left, summary = modules[0].left, modules[1].summary
    each = [left.with_values(key(f"trial/{factor}"), factor=factor) for factor in (5, 7)]
    deps = *summary.deps, *(one.key for one in each)
    return {"trials": [*each, dataclasses.replace(summary, key=key("best"), deps=deps)]}


def test_assets_on_request_are_a_run_each_those_that_read_them_after_them(toy: Toy) -> None:
    with toy.session(on_request=trials(toy)) as session:
        assert reason(session) == "all assets are up to date", "of those that refresh knows"
        repository = session.pipeline.definitions.get_repository_def()
        sensor: Any = repository.get_sensor_def("trials_a_run_each")

        def requested() -> list[str]:
            found = sensor(dg.build_sensor_context(instance=session.instance))
            if isinstance(found, dg.SkipReason):
                return []
            names = [[one.to_user_string() for one in each.asset_selection] for each in found]
            assert len({each.run_key for each in found}) == len(found)
            return [name for [name] in names]

        assert requested() == ["trial/5", "trial/7"]
        assert session.run([key("trial/5")]).computed == ["trial/5"]
        assert requested() == ["trial/7"]
        assert session.run([key("trial/7")]).computed == ["trial/7"]
        assert requested() == ["best"]
        assert session.run([key("best")]).computed == ["best"]
        assert requested() == []


def test_a_value_given_to_a_step_counts_as_params_do(toy: Toy) -> None:
    with toy.session(on_request=trials(toy)) as session:
        done = session.run([key("trial/5"), key("trial/7")])
        assert done.computed == ["trial/5", "trial/7"]
        versions = [done.metadata[name]["sha256"] for name in done.computed]
        assert len({*versions, newest_of(session, "left").value("sha256")}) == 3


def test_the_check_of_a_file_can_be_run_alone_and_reports_its_size(toy: Toy) -> None:
    with toy.session() as session:
        verified(session)
        check = dg.AssetCheckKey(key("left"), "file_is_intact")
        result = check_results(session.instance, check)[0]
        assert result.passed
        assert result.metadata["size_bytes"].value == toy.path("left").stat().st_size
        toy.path("left").unlink()
        verified(session)
        result = check_results(session.instance, check)[0]
        assert not result.passed
        assert "gone from the store" in (result.description or "")


def test_keep_fresh_asks_once_for_each_of_two_states_that_alternate(toy: Toy) -> None:
    keys = set()
    for factor in (3, 2, 3, 2):
        toy.set_factor(factor)
        with toy.session() as session:
            found = tick(session)
            assert isinstance(found, dg.RunRequest)
            keys.add(found.run_key)
            assert launched(session).success
    assert len(keys) == 4


def test_keep_fresh_asks_for_nothing_under_definitions_that_are_not_current(toy: Toy) -> None:
    with toy.session() as session:
        assert reason(session) == "all assets are up to date"
        toy.set_factor(-1)
        assert reason(session) == (
            "the definitions changed and do not load: factor = -1: at least 0 is needed: "
            "reload them first"
        )
        toy.set_factor(3)
        assert reason(session) == "the definitions of left changed: reload them first"
        toy.set_factor(2)
        toy.edit("numbers.py", "int(line)", "int(line) + 1")
        assert reason(session) == "the definitions of group/right, left changed: reload them first"
        toy.edit("numbers.py", "return found", "return (found")
        assert reason(session).startswith("the definitions changed and do not load: ")


def in_progress(session: Session) -> dg.DagsterRun:
    """A run of this process that does not end by itself."""
    run_id = str(uuid.uuid4())
    job = session.pipeline.definitions.resolve_job_def("refresh")
    return session.instance.create_run_for_job(
        job,
        run_id=run_id,
        status=dg.DagsterRunStatus.STARTED,
        tags=runs.owner(session.instance, session.pipeline.store, run_id),
    )


def test_keep_fresh_asks_for_nothing_while_a_run_is_in_progress(toy: Toy) -> None:
    toy.path("summary").unlink()
    with toy.session() as session:
        run = in_progress(session)
        assert reason(session) == f"run {run.run_id} is in progress on these assets"
        session.instance.report_run_canceled(run)
        assert launched(session).success
        assert reason(session) == "all assets are up to date"


def scheduled(session: Session) -> Any:
    """What one tick of the schedule answers."""
    schedule = session.pipeline.definitions.resolve_schedule_def("nightly")
    context = dg.build_schedule_context(
        instance=session.instance, repository_def=session.pipeline.definitions.get_repository_def()
    )
    return schedule.evaluate_tick(context)


NIGHTLY = {"cron": "15 4 * * *", "schedule": "nightly"}


def test_the_schedule_runs_the_job_refresh_by_its_cron(toy: Toy) -> None:
    with toy.session(**NIGHTLY) as session:
        definitions = session.pipeline.definitions
        schedule = definitions.resolve_schedule_def("nightly")
        assert (schedule.cron_schedule, schedule.job_name) == ("15 4 * * *", "refresh")
        assert schedule.execution_timezone == "UTC"
        [request] = scheduled(session).run_requests
        assert request.asset_selection is None
        done = definitions.resolve_job_def("refresh").execute_in_process(instance=session.instance)
        assert done.success
    # the source is asked each time; what comes out the same is not computed again
    assert toy.calls() == ["source"]
    assert toy.words() == dict.fromkeys(ALL, "fresh")


def test_a_tick_of_the_schedule_is_skipped_while_a_run_is_in_progress(toy: Toy) -> None:
    with toy.session(**NIGHTLY) as session:
        run = in_progress(session)
        found = scheduled(session)
        assert not found.run_requests
        assert found.skip_message == f"run {run.run_id} is in progress on these assets"
        session.instance.report_run_failed(run)
        assert len(scheduled(session).run_requests) == 1


def test_a_tick_of_the_schedule_deletes_old_runs(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "RUN_MATERIALIZATIONS", 1)
    toy.set_factor(3)
    old = toy.run("left").run_id
    toy.set_factor(2)
    assert toy.refresh().success
    with toy.session(**NIGHTLY) as session:
        scheduled(session)
        assert old in run_ids(session), "it is not old"
        monkeypatch.setattr(retention, "RUN_DAYS", -1)
        assert len(scheduled(session).run_requests) == 1
        assert old not in run_ids(session)


def test_only_what_every_tick_materializes_can_be_overdue(toy: Toy) -> None:
    with toy.session(**NIGHTLY) as session:
        graph = session.pipeline.definitions.resolve_asset_graph()
        policies = {name: graph.get(key(name)).freshness_policy for name in ALL}
    assert policies["source"] is not None
    assert [name for name in ALL if policies[name]] == ["source"]


@pytest.mark.parametrize(
    "cron",
    ["every monday", "0 3 * *", "61 * * * *", "0 0 30 2 *", "0 0 31 4 *", "0 0 31 4,6,9,11 *"],
)
def test_a_cron_expression_that_is_not_valid_is_refused_when_the_definitions_load(
    cron: str, new_toy: Toy
) -> None:
    with pytest.raises(PipelineError) as raised:
        _ = new_toy.load(cron=cron).definitions
    assert repr(cron) in str(raised.value)


def test_without_a_cron_there_is_no_schedule(new_toy: Toy) -> None:
    repository = new_toy.load().definitions.get_repository_def()
    assert repository.schedule_defs == []
    assert {one.name for one in repository.sensor_defs} == {"keep_fresh"}
    assert {job.name for job in repository.get_all_jobs()} >= {"refresh", "recompute_all"}
