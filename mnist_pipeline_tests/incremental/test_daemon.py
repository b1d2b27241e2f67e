"""The sensor `keep_fresh` and run retries in one real `dagster dev` of the toy package.

`test_automation` evaluates sensor and schedule without a daemon, in more states;
`system/test_ui` has a tick of the schedule.
"""

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, here
from mnist_pipeline_tests.support.webserver import Webserver, running, until

WORKSPACE = "load_from: [{python_module: {module_name: toy.pipeline, location_name: toy}}]\n"
WRONG = ("return int(left", "raise ValueError('wrong')\n    return int(left")


class _Webhook(http.server.BaseHTTPRequestHandler):
    received: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body)["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def webhook() -> Iterator[str]:
    """The address of a webhook."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def _running(
    tmp_path_factory: pytest.TempPathFactory, webhook: str
) -> Iterator[tuple[Toy, Webserver]]:
    toy = Toy.make(tmp_path_factory.mktemp("daemon") / "project")
    # the sensors tick more often than by default
    toy.edit("pipeline.py", "import Pipeline,", "import alerts, automation, Pipeline,")
    seconds = "automation.TICK_SECONDS = alerts.TICK_SECONDS = 2"
    toy.edit("pipeline.py", "\nFOLDER", f"\n{seconds}\nFOLDER")
    toy.edit("pipeline.py", '"name": "toy",', f'"name": "toy", "alerts": ["{webhook}"],')
    (toy.folder / "workspace.yaml").write_text(WORKSPACE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        here(toy.folder, monkeypatch)
        assert toy.refresh().success
        environment = os.environ | {
            "DAGSTER_HOME": str(toy.folder / "home"),
            "PYTHONPATH": f"{toy.folder}:{PROJECT}",
        }
        with running(["dagster", "dev"], toy.folder, environment) as ui:
            yield toy, ui


@pytest.fixture
def automated(
    _running: tuple[Toy, Webserver], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Toy, Webserver]]:
    """A toy that is up to date, in a running UI with its daemon; the sensor is off."""
    toy, ui = _running
    here(toy.folder, monkeypatch)
    yield toy, ui
    ui.stop("sensor", "keep_fresh")
    toy.set_factor(2)
    ui.reload()
    assert toy.refresh().error is None


def skipped(ui: Webserver, reason: str, ticks: int = 1) -> None:
    """Wait until the newest ticks of keep_fresh, each from now on, ask for nothing: for this."""
    start = time.time()

    def found() -> bool:
        newest = ui.ticks("sensor", "keep_fresh")[:ticks]
        new = len(newest) == ticks and newest[-1]["timestamp"] > start
        return new and all(reason in (tick["skipReason"] or "") for tick in newest)

    until(found)


def test_what_is_edited_and_not_reloaded_is_not_run(automated: tuple[Toy, Webserver]) -> None:
    toy, ui = automated
    toy.set_factor(3)
    run_id = ui.launch("refresh", "left")
    assert ui.over(run_id) == "FAILURE"
    reason = "the definitions of left changed since they were loaded: reload them"
    assert reason in ui.log(run_id)
    alert = until(lambda: [text for text in _Webhook.received if run_id in text])
    assert alert == [
        f"toy: the job refresh failed\nleft: {reason}, then launch the run again\nRun {run_id}"
    ]
    ui.reload()
    assert ui.stale() == dict.fromkeys(ALL, "FRESH") | {"left": "STALE"}


def test_a_failed_run_of_the_command_line_is_executed_again_from_its_failure_in_the_ui(
    automated: tuple[Toy, Webserver],
) -> None:
    toy, ui = automated
    toy.set_factor(4)
    toy.edit("total.py", *WRONG)
    failed = toy.refresh().run_id
    assert failed in ui.timeline("refresh")
    assert ui.status(failed) == "FAILURE"
    toy.edit("total.py", *reversed(WRONG))
    ui.reload()
    again = ui.execute_again(failed, "FROM_FAILURE")
    assert ui.over(again) == "SUCCESS", ui.log(again)
    assert ui.computed_and_reused(again) == (["total", "summary"], [])
    assert again in ui.timeline("refresh")
    assert ui.stale() == dict.fromkeys(ALL, "FRESH")
    # also of the command line
    until(lambda: [text for text in _Webhook.received if f"total: wrong\nRun {failed}" in text])


def test_a_check_that_failed_in_a_run_that_did_not_is_reported(
    automated: tuple[Toy, Webserver],
) -> None:
    toy, _ = automated
    toy.set_factor(1000)
    run_id = toy.refresh().run_id or ""
    [alert] = until(lambda: [text for text in _Webhook.received if run_id in text])
    assert alert.startswith("toy: a check failed\nleft, small: ")


def test_keep_fresh_refreshes_what_was_reloaded_in_one_run_and_asks_once_for_each_state(
    automated: tuple[Toy, Webserver],
) -> None:
    toy, ui = automated
    before = {run["runId"] for run in ui.runs()}

    def statuses(job: str = "refresh") -> list[str]:
        """Of the new runs of a job, newest first."""
        new = [run for run in ui.runs() if run["runId"] not in before]
        return [run["status"] for run in new if run["jobName"] == job]

    toy.set_factor(3)
    ui.start("sensor", "keep_fresh")
    skipped(ui, "the definitions of left changed: reload them first")
    assert statuses() == []
    ui.reload()
    skipped(ui, "all assets are up to date")
    assert statuses() == ["SUCCESS"]
    until(lambda: statuses("verify") == ["SUCCESS"])  # once a day
    newest = next(run["runId"] for run in ui.runs() if run["jobName"] == "refresh")
    assert ui.computed_and_reused(newest) == (["left", "total", "summary"], [])
    assert toy.words() == dict.fromkeys(ALL, "fresh")

    # a step that fails is tried once, until something changes
    toy.edit("total.py", *WRONG)
    ui.reload()
    skipped(ui, "total: wrong. Fix the cause", ticks=2)
    assert statuses() == ["FAILURE", "SUCCESS"]
    assert ui.runs()[0]["assets"] == {"total", "summary"}
    toy.edit("total.py", *reversed(WRONG))
    ui.reload()
    skipped(ui, "all assets are up to date")
    assert statuses() == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert statuses("verify") == ["SUCCESS"]


def test_a_run_whose_process_is_killed_is_launched_again_and_keep_fresh_waits_for_it(
    automated: tuple[Toy, Webserver],
) -> None:
    toy, ui = automated
    before = {run["runId"] for run in ui.runs()}
    toy.set_factor(5)
    toy.hold("left")
    ui.reload()
    ui.start("sensor", "keep_fresh")
    [new] = until(lambda: [run for run in ui.runs() if run["runId"] not in before])
    killed = new["runId"]
    process = ui.process(killed, "Started process for run")
    toy.calls()
    until(lambda: toy.is_computing("left"))
    os.kill(process, signal.SIGKILL)
    again = until(lambda: ui.retry_of(killed))
    assert ui.status(killed) == "FAILURE"
    assert ui.process(again, "Started process for run") != process
    skipped(ui, f"run {again} is in progress")
    toy.release("left")
    assert ui.over(again) == "SUCCESS"
    skipped(ui, "all assets are up to date")
    new = [run for run in ui.runs() if run["runId"] not in before]
    assert {run["runId"] for run in new if run["jobName"] == "refresh"} == {killed, again}
