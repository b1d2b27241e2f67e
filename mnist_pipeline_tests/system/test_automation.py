"""The schedule, the sensor `keep_fresh` and run retries in one real `dagster dev`.

The sensor's interval is shortened in the copy of the project; a cron ticks by minutes. Each test
leaves schedule and sensor off and everything up to date.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline_tests.support.clones import ASSETS, ENDLESS, FAST, NEVER_REUSED, Clone
from mnist_pipeline_tests.support.webserver import Webserver, running, until

INTERVAL = ("mnist_pipeline/incremental/automation.py", "TICK_SECONDS = 10", "TICK_SECONDS = 2")


@pytest.fixture(scope="module")
def _automated(
    _furnished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Clone, Webserver]]:
    clone = Clone.make(tmp_path_factory.mktemp("automated") / "clone")
    shutil.copytree(_furnished, clone.data, dirs_exist_ok=True)
    clone.edit(*INTERVAL)
    with running(["dagster", "dev"], clone, MNIST_RETRAIN_CRON="* * * * *") as ui:
        yield clone, ui


@pytest.fixture
def automated(_automated: tuple[Clone, Webserver]) -> Iterator[tuple[Clone, Webserver]]:
    """A clone that is up to date, in a running UI with its daemon."""
    clone, ui = _automated
    params = (clone.folder / "params.toml").read_text()
    yield clone, ui
    ui.stop("schedule", "retraining")
    ui.stop("sensor", "keep_fresh")
    for run in ui.runs():
        if run["status"] in {"QUEUED", "STARTING", "STARTED"}:
            ui.terminate(run["runId"])
    (clone.folder / "params.toml").write_text(params)
    ui.reload()
    assert clone.json("refresh")["status"] == "success"


def skipped(ui: Webserver, reason: str, ticks: int = 1) -> None:
    """Wait until the newest ticks of keep_fresh, each from now on, ask for nothing: for this."""
    start = time.time()

    def found() -> bool:
        newest = ui.ticks("sensor", "keep_fresh")[:ticks]
        new = len(newest) == ticks and newest[-1]["timestamp"] > start
        return new and all(reason in (tick["skipReason"] or "") for tick in newest)

    until(found)


def test_a_tick_of_retraining_is_a_run_of_all_eight_steps_on_the_page_of_its_job(
    automated: tuple[Clone, Webserver],
) -> None:
    clone, ui = automated
    ui.start("schedule", "retraining")

    def scheduled() -> list[dict[str, Any]]:
        tag = "dagster/schedule_name"
        return [run for run in ui.runs() if run["tags"].get(tag) == "retraining"]

    run_id = until(scheduled)[-1]["runId"]
    assert ui.over(run_id) == "SUCCESS"
    computed, reused = ui.computed_and_reused(run_id)
    assert set(computed) == NEVER_REUSED
    assert set(reused) == ASSETS - NEVER_REUSED
    assert ui.steps(run_id) == dict.fromkeys(ASSETS, "SUCCESS")
    assert run_id in ui.timeline("refresh")
    [newest] = clone.json("history", "--limit", "1")["materializations"]
    assert newest["trigger"] == "schedule retraining"

    # a tick is skipped while a run is in progress
    clone.edit("params.toml", FAST, ENDLESS)
    ui.reload()
    endless = ui.launch("refresh", "sgd_model")
    ui.process(endless)
    started = len(scheduled())

    def skipped() -> bool:
        tick = ui.ticks("schedule", "retraining")[0]
        return tick["status"] == "SKIPPED" and endless in tick["skipReason"]

    until(skipped)
    assert len(scheduled()) <= started + 1, "the tick before it was launched may have run"
    assert ui.status(endless) == "STARTED"


def test_what_is_edited_and_not_reloaded_is_not_run(automated: tuple[Clone, Webserver]) -> None:
    clone, ui = automated
    clone.edit("params.toml", FAST, f"{FAST}alpha = 1e-6\n")
    run_id = ui.launch("refresh", "sgd_model")
    assert ui.over(run_id) == "FAILURE"
    assert "the definitions of sgd_model changed since they were loaded: reload them" in (
        ui.log(run_id)
    )
    ui.reload()
    assert ui.stale() == dict.fromkeys(ASSETS, "FRESH") | {"sgd_model": "STALE"}


def test_keep_fresh_refreshes_what_was_reloaded_in_one_run_and_asks_once_for_each_state(
    automated: tuple[Clone, Webserver],
) -> None:
    clone, ui = automated
    before = {run["runId"] for run in ui.runs()}

    def runs() -> list[dict[str, Any]]:
        return [run for run in ui.runs() if run["runId"] not in before]

    clone.edit("params.toml", FAST, f"{FAST}alpha = 1e-4\n")
    ui.start("sensor", "keep_fresh")
    skipped(ui, "the definitions of sgd_model changed: reload them first", ticks=2)
    assert runs() == []
    ui.reload()
    skipped(ui, "all assets are up to date", ticks=2)
    [run] = runs()
    assert run["status"] == "SUCCESS"
    from_model = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
    assert set(ui.computed_and_reused(run["runId"])[0]) == from_model
    assert {found["status"] for found in clone.status().values()} == {"fresh"}

    # a step that fails is tried once, until something changes
    clone.edit("params.toml", "least_accuracy = 0.5", "least_accuracy = 0.999")
    ui.reload()
    skipped(ui, "at least 0.9990 is plausible. Fix the cause", ticks=3)
    [failed, _] = runs()
    assert (failed["status"], failed["assets"]) == (
        "FAILURE",
        {"evaluation", "champion_model", "report"},
    )
    clone.edit("params.toml", "least_accuracy = 0.999", "least_accuracy = 0.4")
    ui.reload()
    skipped(ui, "all assets are up to date", ticks=2)
    assert [run["status"] for run in runs()] == ["SUCCESS", "FAILURE", "SUCCESS"]


@pytest.mark.parametrize("by", ["the UI", "keep_fresh"])
def test_a_run_whose_process_is_killed_is_launched_again_by_dagster(
    by: str, automated: tuple[Clone, Webserver]
) -> None:
    clone, ui = automated
    clone.edit("params.toml", FAST, ENDLESS)
    ui.reload()
    before = {run["runId"] for run in ui.runs()}
    if by == "the UI":
        killed = ui.materialize({"sgd_model"})
    else:
        ui.start("sensor", "keep_fresh")
        [new] = until(lambda: [run for run in ui.runs() if run["runId"] not in before])
        killed = new["runId"]
    process = ui.process(killed)
    os.kill(process, signal.SIGKILL)
    again = until(lambda: ui.retry_of(killed))
    assert ui.status(killed) == "FAILURE"
    assert ui.process(again) != process
    if by == "keep_fresh":
        skipped(ui, f"run {again} is in progress")
        assert {run["runId"] for run in ui.runs()} - before == {killed, again}
