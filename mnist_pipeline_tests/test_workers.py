"""Runs on workers that share PostgreSQL, Redis and an S3 server with the rest, and nothing else."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.settings import PROJECT
from mnist_pipeline_tests import servers
from mnist_pipeline_tests.conftest import NEUTRAL, House
from mnist_pipeline_tests.servers import PASSWORD, S3_KEYS, Deployment, Server
from mnist_pipeline_tests.test_automation import ENDLESS, OWNER
from mnist_pipeline_tests.webserver import Webserver, until

TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
OVER = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class Site:
    """A deployment with its UI; `params` is the params file of all of its machines."""

    deployed: Deployment
    ui: Webserver
    params: Path

    def ends(self, run_id: str, status: str) -> None:
        """Wait for the end of a run, which must be this one."""
        until(lambda: self.ui.status(run_id) in OVER)
        assert self.ui.status(run_id) == status, self.ui.log(run_id)[-3000:]

    def says(self, run_id: str, text: str) -> None:
        until(lambda: text in self.ui.log(run_id))

    def run(self, run_id: str) -> dict[str, Any]:
        [found] = [run for run in self.ui.runs() if run["runId"] == run_id]
        return found

    def retry_of(self, run_id: str) -> str:
        def find() -> list[str]:
            tag = "dagster/parent_run_id"
            return [run["runId"] for run in self.ui.runs() if run["tags"].get(tag) == run_id]

        [found] = until(find)
        return str(found)

    def at_work(self, run_id: str, text: str = "fitting preset") -> int:
        """Wait until a worker's process does something in a run; return its process id."""
        self.says(run_id, text)
        return int(self.run(run_id)["tags"][OWNER].split()[2])

    def terminate(self, run_id: str) -> str:
        return str(self.ui.ask(TERMINATE, id=run_id)["terminateRun"]["__typename"])

    def endless(self) -> None:
        """Let every fit from now on take for ever."""
        text = (PROJECT / "params.toml").read_text()
        assert 'preset = "fast"\n' in text
        self.params.write_text(text.replace('preset = "fast"\n', ENDLESS))
        self.ui.reload()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if why := servers.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("site")
    params = folder / "params.toml"
    params.write_text((PROJECT / "params.toml").read_text())
    with servers.s3(folder / "s3") as store:
        variables = NEUTRAL | {
            "MNIST_DATA_DIR": "s3://digits/pipeline",
            "MNIST_PARAMS": str(params),
            "AWS_ENDPOINT_URL": store.url,
            **{name.upper(): value for name, value in S3_KEYS.items()},
        }
        with servers.deployment(folder, variables) as deployed, deployed.head() as ui:
            yield Site(deployed, ui, params)


def test_a_run_waits_for_a_worker_and_when_that_is_lost_another_one_ends_it_as_a_local_run_would(
    site: Site, furnished: House
) -> None:
    first = site.ui.launch()
    site.says(first, "No worker listens on queue 'dagster' of redis://:**@")
    assert PASSWORD not in site.ui.log(first)
    lost = site.deployed.worker("first")
    process = site.at_work(first)
    assert process in servers.processes_of(lost)
    lost.stop()
    site.deployed.worker("second")
    site.ends(first, "FAILURE")
    site.says(first, f"its process {process} on {os.uname().nodename} is gone")
    again = site.retry_of(first)
    site.ends(again, "SUCCESS")
    remade = site.run(again)["tags"]
    assert int(remade[OWNER].split()[2]) != process

    desk = site.deployed.machine("desk")
    completed = desk.cli("status", "--verify", "--json")
    assert completed.returncode == 0, completed.stderr
    standings = json.loads(completed.stdout)["assets"]
    assert {asset["key"]: asset["data_version"] for asset in standings} == furnished.versions()
    assert {asset["status"] for asset in standings} == {"fresh"}
    assert all(asset["path"].startswith("s3://digits/pipeline/") for asset in standings)
    # no machine has anything of the store, the one with the worker included
    assert not list(site.deployed.folder.rglob("*.skops"))


@pytest.mark.slow
def test_a_run_that_is_terminated_on_its_worker_is_canceled_and_not_made_again(site: Site) -> None:
    worker = site.deployed.worker("of the canceled")
    site.endless()
    run_id = site.ui.launch()
    process = site.at_work(run_id)
    assert site.terminate(run_id) == "TerminateRunSuccess"
    site.ends(run_id, "CANCELED")
    until(lambda: not Path(f"/proc/{process}").exists())
    seen = len(site.ui.runs())
    time.sleep(6)
    assert len(site.ui.runs()) == seen
    worker.stop()


@pytest.mark.slow
def test_a_killed_process_of_a_worker_is_found_and_its_run_made_again_on_the_same_worker(
    site: Site,
) -> None:
    worker = site.deployed.worker("of the killed")
    site.endless()
    run_id = site.ui.launch()
    os.kill(site.at_work(run_id), signal.SIGKILL)
    site.ends(run_id, "FAILURE")
    again = site.retry_of(run_id)
    assert site.at_work(again) in servers.processes_of(worker)
    assert site.terminate(again) == "TerminateRunSuccess"
    site.ends(again, "CANCELED")
    worker.stop()


@pytest.mark.slow
def test_a_run_outlives_the_loss_of_broker_and_history_and_what_is_queued_waits_for_the_broker(
    site: Site,
) -> None:
    worker = site.deployed.worker("of the outage", "--concurrency", "2")
    site.endless()
    run_id = site.ui.launch()
    process = site.at_work(run_id)
    site.deployed.broker.stop()
    queued = site.ui.launch("retrain_all", "raw_mnist")
    site.says(queued, "does not answer")
    site.says(queued, "The run goes back to the queue.")
    assert site.terminate(run_id) == "TerminateRunFailure"
    assert "Nobody can be asked to stop." in site.ui.log(run_id)
    site.deployed.broker.start()
    site.ends(queued, "SUCCESS")
    site.deployed.history.stop()
    time.sleep(1)
    site.deployed.history.start()
    # each of the webserver's kept connections fails once
    until(lambda: site.ui.status(run_id) == "STARTED" and site.ui.log(run_id))
    time.sleep(20)
    assert until(lambda: site.ui.status(run_id)) == "STARTED"
    assert Path(f"/proc/{process}").exists()
    until(lambda: site.terminate(run_id) == "TerminateRunSuccess", pause=3)
    site.ends(run_id, "CANCELED")
    worker.stop()


@pytest.mark.slow
def test_a_history_that_is_gone_is_one_message_on_the_command_line(site: Site) -> None:
    desk = site.deployed.machine("desk without history")
    server: Server = site.deployed.history
    server.stop()
    try:
        completed = desk.cli("status", "--json")
    finally:
        server.start()
    assert completed.returncode == 1
    error = json.loads(completed.stdout)["error"]
    assert error.startswith("Dagster's history in PostgreSQL cannot be used: connection to server")
    assert PASSWORD not in completed.stdout + completed.stderr
