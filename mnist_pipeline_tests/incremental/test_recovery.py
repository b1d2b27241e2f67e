"""What was lost, damaged, interrupted or killed is repaired, and nothing else is."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mnist_pipeline.incremental import results
from mnist_pipeline_tests.conftest import flip_a_byte
from mnist_pipeline_tests.incremental.conftest import ALL, Toy
from mnist_pipeline_tests.support.webserver import until

FRESH = dict.fromkeys(ALL, "fresh")
REFRESH = (
    "done = session.refresh()\n"
    "print(json.dumps([done.run_id, done.computed, done.reused, done.error]))"
)


@pytest.mark.parametrize("name", ["source", "group/right", "summary"])
def test_a_deleted_file_comes_back_and_no_other_step_is_computed(name: str, toy: Toy) -> None:
    file = toy.path(name)
    content = file.read_bytes()
    file.unlink()
    found = toy.status()[name]
    assert (found.status, found.causes) == ("missing", [f"its file is gone from the store: {file}"])
    done = toy.refresh()
    assert (done.error, done.computed) == (None, [name])
    assert toy.calls() == [name]
    assert file.read_bytes() == content
    assert toy.refresh().run_id is None


def test_a_flipped_byte_is_found_by_verify_and_by_the_next_reader_and_repaired(toy: Toy) -> None:
    file = toy.path("left")
    whole = file.read_bytes()
    flip_a_byte(file)
    assert toy.words()["left"] == "fresh", "its size is right"
    found = toy.status(verify=True)["left"]
    assert found.status == "damaged"
    assert f"left is damaged: {file}" in found.causes[0]
    reader = toy.run("total", force=True)
    assert f"left is damaged: {file}" in (reader.error or "")
    assert "Materialize left." in (reader.error or "")
    toy.calls()
    # what the reader found counts from now on
    assert toy.status()["left"].status == "damaged"
    assert toy.refresh().success
    assert toy.calls() == ["left"]
    assert file.read_bytes() == whole
    assert toy.words(verify=True) == toy.words() == FRESH
    flip_a_byte(file)
    assert toy.refresh(verify=True).success
    assert toy.words(verify=True) == FRESH


def test_a_disk_of_the_history_that_is_full_within_a_step_is_named_with_the_step(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = results.record

    def allow_no_more_pages(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def on_a_full_disk(instance: dg.DagsterInstance, *arguments: Any) -> None:
        event.listen(Engine, "connect", allow_no_more_pages)
        try:
            # until no page is free
            for _ in range(100):
                record(instance, *arguments)
                arguments = (arguments[0], f"{arguments[1]}0", arguments[2])
        finally:
            event.remove(Engine, "connect", allow_no_more_pages)

    toy.set_factor(3)
    monkeypatch.setattr(results, "record", on_a_full_disk)
    failed = toy.run("left")
    assert failed.error == (
        f"left: Dagster's history in {toy.folder / 'home'} cannot be used: database or disk is "
        "full. Make room there or repair it, then try again; what was published is still there."
    )
    monkeypatch.setattr(results, "record", record)
    assert toy.refresh().success
    assert toy.words() == FRESH


def test_a_truncated_file_is_seen_without_reading_it(toy: Toy) -> None:
    file = toy.path("left")
    file.write_bytes(b"PAR1")
    found = toy.status()["left"]
    assert found.status == "damaged"
    assert "has 4 bytes, not read, recorded were" in found.causes[0]
    assert toy.refresh().computed == ["left"]
    assert toy.words(verify=True) == FRESH


def test_a_store_that_is_gone_altogether_is_missing_and_comes_back(toy: Toy) -> None:
    shutil.rmtree(toy.data)
    assert toy.words() == dict.fromkeys(ALL, "missing")
    assert sorted(toy.refresh().computed) == sorted(ALL)
    assert toy.words(verify=True) == FRESH


def end(process: subprocess.Popen[str], how: signal.Signals) -> tuple[str, str]:
    process.send_signal(how)
    return process.communicate(timeout=240)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_refresh_ends_well_and_the_next_goes_on_where_it_was(
    how: signal.Signals, new_toy: Toy
) -> None:
    new_toy.hold("total")
    handled = "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
    process = new_toy.start(handled + REFRESH)
    until(lambda: new_toy.is_computing("total"), pause=0.02)
    out, err = end(process, how)
    assert json.loads(out)[3] == "interrupted", err
    new_toy.release("total")
    assert new_toy.calls() == sorted({*ALL} - {"summary"})
    done = new_toy.refresh()
    assert (done.error, done.computed, done.reused) == (None, ["total", "summary"], [])
    assert new_toy.calls() == ["summary", "total"]
    assert new_toy.words() == FRESH


def test_a_killed_run_is_marked_failed_by_the_next_session_and_its_results_are_found(
    new_toy: Toy,
) -> None:
    new_toy.hold("total")
    process = new_toy.start(REFRESH)
    until(lambda: new_toy.is_computing("total"), pause=0.02)
    end(process, signal.SIGKILL)
    new_toy.release("total")
    new_toy.calls()
    with new_toy.session() as session:
        [run] = session.instance.get_runs()
        assert run.status is dg.DagsterRunStatus.FAILURE
        [said] = new_toy.said
        assert said.startswith(f"run {run.run_id} was interrupted: its process {process.pid} on ")
        assert said.endswith(" is gone; what it finished stays")
        done = session.refresh()
    assert (done.error, done.computed, done.reused) == (None, ["total", "summary"], [])
    assert new_toy.calls() == ["summary", "total"]
    assert new_toy.words() == FRESH


def test_a_process_that_is_killed_between_publishing_and_its_event_loses_no_result(
    toy: Toy,
) -> None:
    toy.set_factor(3)
    code = (
        "from mnist_pipeline.incremental.engine import Engine\n"
        "Engine._recorded = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "session.refresh()"
    )
    process = toy.start(code)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    assert toy.calls() == ["left"]
    done = toy.refresh()
    assert (done.error, done.computed, done.reused) == (None, ["total", "summary"], ["left"])
    assert toy.calls() == ["summary", "total"]
    assert toy.words(verify=True) == FRESH


def test_two_refreshes_at_once_compute_each_step_once(new_toy: Toy) -> None:
    new_toy.hold("source")
    first = new_toy.start(REFRESH)
    until(lambda: new_toy.is_computing("source"), pause=0.02)
    second = new_toy.start(REFRESH)
    assert second.stderr is not None
    assert second.stderr.readline() == "another refresh is in progress: waiting for it\n"
    new_toy.release("source")
    documents = [json.loads(one.communicate(timeout=240)[0]) for one in (first, second)]
    assert sorted(documents[0][1]) == sorted(ALL)
    assert documents[1] == [None, [], [], None]
    assert new_toy.calls() == sorted(ALL)


def test_a_refresh_beside_a_run_waits_for_it_and_computes_nothing_twice(new_toy: Toy) -> None:
    new_toy.hold("left")
    run = new_toy.start("print(session.run(trigger='the UI').error)")
    until(lambda: new_toy.is_computing("left"), pause=0.02)
    refresh = new_toy.start(REFRESH)
    assert refresh.stderr is not None
    said = refresh.stderr.readline()
    assert said.startswith("waiting for run ")
    assert f"(owner: {os.uname().nodename} {run.pid})" in said
    new_toy.release("left")
    assert run.communicate(timeout=240)[0] == "None\n"
    assert json.loads(refresh.communicate(timeout=240)[0]) == [None, [], [], None]
    assert new_toy.calls() == sorted(ALL)
    assert new_toy.words() == FRESH


def test_two_runs_of_the_same_step_at_once_compute_it_once(toy: Toy) -> None:
    toy.set_factor(3)
    code = (
        "done = session.run([dg.AssetKey('left')])\n"
        "print(json.dumps([done.run_id, done.computed, done.reused, done.error]))"
    )
    toy.hold("left")
    first = toy.start(code)
    until(lambda: toy.is_computing("left"), pause=0.02)
    second = toy.start(code)
    assert second.stderr is not None
    assert "another run computes left: waiting for it" in second.stderr.readline()
    toy.release("left")
    run_id, *did = json.loads(first.communicate(timeout=240)[0])
    assert did == [["left"], [], None]
    assert json.loads(second.communicate(timeout=240)[0])[1:] == [[], ["left"], None]
    assert toy.calls() == ["left"]
    assert toy.made("left").value("reused_from") == run_id


def test_a_step_whose_lock_holder_is_killed_goes_on_in_the_run_that_waits(toy: Toy) -> None:
    toy.set_factor(3)
    toy.hold("left")
    first = toy.start("session.run([dg.AssetKey('left')])")
    until(lambda: toy.is_computing("left"), pause=0.02)
    toy.calls()
    second = toy.start("print(session.run([dg.AssetKey('left')]).computed)")
    assert second.stderr is not None
    assert "another run computes left" in second.stderr.readline()
    assert not toy.is_computing("left")
    end(first, signal.SIGKILL)
    until(lambda: toy.is_computing("left"), pause=0.02)
    toy.release("left")
    assert second.communicate(timeout=240)[0] == "['left']\n"
