"""The schedule and the sensors in a real `dagster dev`, webserver and daemon.

Pauses and the sensor's interval are shortened in the copy of the project; a cron ticks by minutes.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.webserver import Webserver, running, until

DEV = ["dagster", "dev"]
KEEP_FRESH = "mnist_pipeline/incremental/keep_fresh.py"
ENDLESS = 'preset = "tutorial"\ntol = 0.0\nalpha = 1e-9\nmax_iter = 1000000\n'
OWNER = "mnist_pipeline/owner"


@pytest.fixture
def quick_clone(furnished_clone: Clone) -> Clone:
    """A clone whose sensor is in a hurry."""
    furnished_clone.edit(KEEP_FRESH, "PAUSES = [10, 30, 90]", "PAUSES = [1, 2, 3]")
    furnished_clone.edit(KEEP_FRESH, "TICK_SECONDS = 10", "TICK_SECONDS = 2")
    return furnished_clone


def over(webserver: Webserver, run_id: str) -> str:
    """Wait for the end of a run and return its status."""
    until(lambda: webserver.status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"})
    return webserver.status(run_id)


def at_work(webserver: Webserver) -> Callable[[], dict[str, Any] | None]:
    """The newest run, once a process works on it."""

    def find() -> dict[str, Any] | None:
        newest = webserver.runs()[0]
        return newest if newest["status"] == "STARTED" and OWNER in newest["tags"] else None

    return find


def keep_fresh_says(webserver: Webserver, reason: str) -> None:
    """Wait for a tick from now on that asks for nothing, for this reason."""
    seen = len(webserver.ticks("sensor", "keep_fresh"))

    def said() -> bool:
        ticks = webserver.ticks("sensor", "keep_fresh")
        return any(reason in (tick["skipReason"] or "") for tick in ticks[: len(ticks) - seen])

    until(said)


def three_ticks(webserver: Webserver) -> None:
    seen = len(webserver.ticks("sensor", "keep_fresh"))
    until(lambda: len(webserver.ticks("sensor", "keep_fresh")) >= seen + 3)


def test_the_schedule_retrains_and_a_tick_is_skipped_while_a_run_is_in_progress(
    furnished_clone: Clone,
) -> None:
    with running(DEV, furnished_clone, MNIST_RETRAIN_CRON="* * * * *") as webserver:
        webserver.start("schedule", "retraining")

        def scheduled() -> list[dict[str, Any]]:
            return [
                run
                for run in webserver.runs()
                if run["tags"].get("dagster/schedule_name") == "retraining"
            ]

        until(scheduled, seconds=120)
        run = scheduled()[-1]["runId"]
        assert over(webserver, run) == "SUCCESS"
        assert "materialized: raw_mnist" in webserver.log(run)
        newest = furnished_clone.json("history", "--limit", "2")["materializations"]
        assert newest[0]["asset"] == "raw_mnist"
        assert newest[0]["trigger"] == "schedule retraining"
        assert newest[1]["trigger"] == "mnist-pipeline run"

        # what is edited and not reloaded is not run
        furnished_clone.edit("params.toml", 'preset = "fast"\n', ENDLESS)
        stopped = webserver.launch("retrain_all", "sgd_model")
        assert over(webserver, stopped) == "FAILURE"
        assert "the definitions of sgd_model changed since they were loaded: reload them" in (
            webserver.log(stopped)
        )
        webserver.reload()
        assert webserver.stale() == dict.fromkeys(ASSETS, "FRESH") | {"sgd_model": "STALE"}

        endless = webserver.launch("retrain_all", "sgd_model")
        until(at_work(webserver))
        started = len(scheduled())

        def skipped() -> bool:
            tick = webserver.ticks("schedule", "retraining")[0]
            return tick["status"] == "SKIPPED" and endless in tick["skipReason"]

        until(skipped, seconds=120)
        assert len(scheduled()) <= started + 1, "the tick before it was launched may have run"
        assert webserver.status(endless) == "STARTED"


def test_keep_fresh_makes_what_was_reloaded_and_nothing_else(quick_clone: Clone) -> None:
    with running(DEV, quick_clone) as webserver:
        before = len(webserver.runs())
        quick_clone.edit("mnist_pipeline/digits/figures.py", "cividis", "viridis")
        webserver.start("sensor", "keep_fresh")
        keep_fresh_says(webserver, "the definitions of report changed: reload them first")
        three_ticks(webserver)
        assert len(webserver.runs()) == before
        webserver.reload()
        keep_fresh_says(webserver, "all is fresh")
        three_ticks(webserver)
        [run] = webserver.runs()[:-before]
        assert (run["assets"], run["status"]) == ({"report"}, "SUCCESS")
        assert {found["status"] for found in quick_clone.status().values()} == {"fresh"}

        # a step that fails: four attempts in all, then silence
        quick_clone.edit("params.toml", "least_accuracy = 0.5", "least_accuracy = 0.999")
        webserver.reload()
        keep_fresh_says(webserver, "evaluation failed 4 times and is left alone")
        three_ticks(webserver)
        failed = [run for run in webserver.runs() if run["status"] == "FAILURE"]
        assert [run["assets"] for run in failed] == [{"evaluation"}] * 4
        assert len(webserver.runs()) == before + 1 + 4
        # until versions change
        quick_clone.edit("params.toml", "least_accuracy = 0.999", "least_accuracy = 0.4")
        webserver.reload()
        keep_fresh_says(webserver, "all is fresh")
        assert webserver.runs()[0]["status"] == "SUCCESS"
        log = webserver.output()
        assert log.count("evaluation failed 4 times, last in run") == 1
        assert "at least 0.9990 is plausible" in log
        until(lambda: f"run {failed[0]['runId']} (retrain_all) failed: evaluation" in (
            webserver.output()
        ))  # fmt: skip


def test_keep_fresh_does_not_wait_for_the_dead(quick_clone: Clone) -> None:
    quick_clone.edit("params.toml", 'preset = "fast"\n', ENDLESS)
    with running(DEV, quick_clone) as webserver:
        webserver.start("sensor", "keep_fresh")
        run = until(at_work(webserver))
        assert run["assets"] == {"sgd_model"}
        os.kill(int(run["tags"][OWNER].split()[2]), signal.SIGKILL)
        again = until(lambda: (found := at_work(webserver)()) != run and found)
        assert webserver.status(run["runId"]) == "FAILURE"
        keep_fresh_says(webserver, f"run {again['runId']} is in progress")
    # webserver, daemon, code server and worker are all killed by now
    quick_clone.edit("params.toml", ENDLESS, 'preset = "fast"\nalpha = 0.001\n')
    with running(DEV, quick_clone) as webserver:
        keep_fresh_says(webserver, "all is fresh")
        assert webserver.status(again["runId"]) == "FAILURE"
        assert f"its process {again['tags'][OWNER].split()[2]} on " in webserver.log(again["runId"])
        assert webserver.runs()[0]["status"] == "SUCCESS"
