"""Runs: the origin and the owner of each, and those whose process is dead."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.incremental import Session, runs
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, key, run_ids
from mnist_pipeline_tests.support.webserver import until

KEYS = [key("left")]
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def session(new_toy: Toy) -> Iterator[Session]:
    with new_toy.session() as opened:
        yield opened


@pytest.fixture
def dead(new_toy: Toy) -> str:
    """The owner tag, but for the run's id, of a process that was killed."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from pathlib import Path\n"
            "import dagster as dg\n"
            "from mnist_pipeline.incremental import runs\n"
            "from mnist_pipeline.incremental.store import Store\n"
            "at = dg.DagsterInstance.ephemeral(), Store(Path(sys.argv[1]))\n"
            "print(runs.owner(*at, '')[runs.OWNER], flush=True)\n"
            "input()",
            str(new_toy.data),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    tag = process.stdout.readline().rstrip("\n")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return tag


def mine(session: Session) -> str:
    """The owner tag, but for the run's id, of this process."""
    return runs.owner(session.instance, session.pipeline.store, "")[runs.OWNER]


def begun(session: Session, owner: str, status: dg.DagsterRunStatus = STARTED) -> dg.DagsterRun:
    """A run of `left` whose tag names this owner."""
    run_id = str(uuid.uuid4())
    job = session.pipeline.definitions.resolve_job_def("refresh")
    return session.instance.create_run_for_job(
        job.get_subset(asset_selection=set(KEYS)),
        run_id=run_id,
        status=status,
        asset_selection=frozenset(KEYS),
        tags={runs.OWNER: run_id + owner},
    )


def status_of(session: Session, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = session.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_every_run_has_the_origin_of_its_job_and_names_its_owner_and_its_trigger(toy: Toy) -> None:
    with toy.session() as session:
        assert session.run(KEYS, trigger="a test").success
        last, first = session.instance.get_runs()
    assert first.job_name == last.job_name == "refresh"
    origin = last.remote_job_origin
    assert origin is not None
    assert origin.job_name == "refresh"
    assert origin.repository_origin.code_location_origin.location_name == "toy"
    run_id, host, process, token = last.tags[runs.OWNER].split(" ", 3)
    assert (run_id, host) == (last.run_id, os.uname().nodename)
    assert int(process) == os.getpid()
    assert Path(token).exists()
    assert last.tags["toy/trigger"] == "a test"


def test_whichever_process_works_on_a_run_claims_it(toy: Toy) -> None:
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def("refresh")
        # as a re-execution copies them
        tags = {runs.OWNER: "another-run elsewhere 1 /nowhere/.owners/1.lock"}
        done = job.execute_in_process(instance=session.instance, tags=tags)
        run = session.instance.get_run_by_id(done.run_id)
        assert run is not None
        assert run.tags[runs.OWNER].split()[0] == done.run_id
        assert run.tags[runs.OWNER].split()[2] == str(os.getpid())


def test_a_run_executed_again_does_not_keep_the_tags_that_a_command_gave_the_first(
    toy: Toy,
) -> None:
    with toy.session() as session:
        done = session.run(KEYS, trigger="a command")
        first = session.instance.get_run_by_id(done.run_id or "")
        assert first is not None
        assert first.tags["dagster/max_retries"] == "0"
        job = session.pipeline.definitions.resolve_job_def("refresh")
        tags = {**first.tags, "dagster/parent_run_id": first.run_id}
        again = job.execute_in_process(instance=session.instance, tags=tags)
        run = session.instance.get_run_by_id(again.run_id)
        assert run is not None
        assert run.tags["dagster/max_retries"] == "3"
        assert run.tags["toy/trigger"] == "re-execution"


def test_a_run_of_a_dead_process_is_marked_failed_and_its_pool_slot_is_free(
    session: Session, dead: str
) -> None:
    storage = session.instance.event_log_storage
    storage.set_concurrency_slots("fits", 1)
    run = begun(session, dead)
    assert storage.claim_concurrency_slot("fits", run.run_id, "left").is_claimed
    said: list[str] = []
    assert runs.unfinished(replace(session, report=said.append), KEYS) == []
    assert status_of(session, run) is dg.DagsterRunStatus.FAILURE
    host, process = dead.split()[:2]
    log = [entry.message for entry in session.instance.all_logs(run.run_id)]
    assert any(f"its process {process} on {host} is gone" in message for message in log)
    assert said == [
        f"run {run.run_id} was interrupted: its process {process} on {host} is gone; "
        "what it finished stays"
    ]
    assert storage.claim_concurrency_slot("fits", "another", "left").is_claimed


def test_a_run_of_a_dead_process_that_was_being_canceled_is_canceled(
    session: Session, dead: str
) -> None:
    run = begun(session, dead, dg.DagsterRunStatus.CANCELING)
    assert runs.unfinished(session, KEYS) == []
    assert status_of(session, run) is dg.DagsterRunStatus.CANCELED


def test_a_run_is_in_progress_while_its_process_lives_or_that_is_not_known(
    new_toy: Toy, session: Session, dead: str
) -> None:
    alive = [
        begun(session, mine(session)),
        # of another machine, whose files are not here
        begun(session, " elsewhere 1 /nowhere/.owners/1.lock"),
        begun(session, f" elsewhere 1 {new_toy.data}/.owners/1.lock"),
        # executed again: the tags are the dead one's
        begun(session, "and more" + dead),
    ]
    ended = begun(session, f" {os.uname().nodename} 1 {new_toy.data}/.owners/1.lock")
    found = runs.unfinished(session, KEYS)
    assert [run.run_id for run in found] == [run.run_id for run in alive]
    assert status_of(session, ended) is dg.DagsterRunStatus.FAILURE
    assert runs.unfinished(session, [key("of_another_project")]) == []


def test_a_run_that_no_process_took_up_is_given_up_after_a_while(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = session.pipeline.definitions.resolve_job_def("refresh")
    run = session.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    assert len(runs.unfinished(session, KEYS)) == 1
    monkeypatch.setattr(runs, "START_SECONDS", -1)
    assert runs.unfinished(session, KEYS) == []
    assert status_of(session, run) is dg.DagsterRunStatus.FAILURE


def test_a_run_that_was_marked_failed_while_it_worked_publishes_nothing_more(
    new_toy: Toy, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = runs.owner

    def buried(*claimed: Any) -> dict[str, str]:
        if found := session.instance.get_run_by_id(claimed[2]):
            session.instance.report_run_failed(found, "its process is gone")
        return claim(*claimed)

    monkeypatch.setattr(runs, "owner", buried)
    done = session.run([key("source")])
    assert "was marked as failure while this process worked on it" in (done.error or "")
    assert not list(new_toy.data.glob("source/*/*"))
    assert session.history() == []


def test_refresh_waits_for_the_run_in_progress_and_reports_it_once(toy: Toy) -> None:
    with toy.session() as session:
        other = begun(session, mine(session))

        def finish() -> None:
            until(lambda: toy.said, pause=0.05)
            session.instance.report_run_failed(other)

        thread = threading.Thread(target=finish)
        thread.start()
        done = session.refresh()
        thread.join()
    [said] = toy.said
    assert said.startswith(f"waiting for run {other.run_id} on these assets (owner: ")
    # the run that failed was the last attempt of what it planned
    assert (done.computed, done.reused, done.error) == ([], ["left", "total", "summary"], None)


def test_a_failed_run_is_one_message_with_a_line_for_each_failed_step(toy: Toy) -> None:
    toy.edit("left.py", "return Result", "raise KeyError('no such column')\n    return Result")
    toy.edit(
        "right.py",
        "return [",
        "raise RuntimeError('first') from ValueError('the cause')\n    return [",
    )
    done = toy.refresh()
    lines = (done.error or "").splitlines()
    assert sorted(lines) == ["group/right: the cause", "left: 'no such column'"]
    assert done.computed == done.reused == []


def test_a_selection_names_assets_by_their_whole_key_and_runs_nothing_else(toy: Toy) -> None:
    with toy.session() as session:
        keys = session.select('key:"group/right"+')
        assert [one.to_user_string() for one in keys] == ["group/right", "summary", "total"]
        done = session.run(session.select('key:"group/right"'), force=True)
        assert done.computed == ["group/right"]
        with pytest.raises(Exception, match="selects nothing; the assets are group/right, left"):
            session.select("key:elsewhere")
        assert len(run_ids(session)) == 2
    assert toy.calls() == ["group/right"]
    assert set(toy.words()) == set(ALL)
