"""Runs on workers that share PostgreSQL, Redis and an S3 server with the rest, and nothing else."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.conftest import NEUTRAL, House
from mnist_pipeline_tests.support import servers
from mnist_pipeline_tests.support.clones import ASSETS, ENDLESS, FAST, NEVER_REUSED
from mnist_pipeline_tests.support.servers import PASSWORD, S3_KEYS, Deployment, Server
from mnist_pipeline_tests.support.webserver import Webserver, until


@dataclass
class Site:
    """A deployment with its UI; `params` is the params file of all of its machines."""

    deployed: Deployment
    ui: Webserver
    params: Path

    def ends(self, run_id: str, status: str) -> None:
        """Wait for the end of a run, which must be this one."""
        assert self.ui.over(run_id) == status, self.ui.log(run_id)[-3000:]

    def logs(self, run_id: str, text: str) -> None:
        """Wait until the log of a run has a text."""
        until(lambda: text in self.ui.log(run_id))

    def set_params(self, text: str) -> None:
        """Let all machines have these params from now on."""
        self.params.write_text(text)
        self.ui.reload()

    @contextlib.contextmanager
    def endless(self) -> Iterator[None]:
        """Let every fit take for ever meanwhile."""
        text = self.params.read_text()
        assert FAST in text
        self.set_params(text.replace(FAST, ENDLESS))
        yield
        self.set_params(text)


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


def test_a_run_waits_for_a_worker_another_one_finishes_it_and_each_reuses_what_the_other_computed(
    site: Site, furnished: House
) -> None:
    first = site.ui.launch()
    site.logs(first, "No worker listens on queue 'dagster' of redis://:**@")
    assert PASSWORD not in site.ui.log(first)
    lost = site.deployed.worker("first")
    process = site.ui.process(first)
    assert process in servers.processes_of(lost)
    lost.stop()
    second = site.deployed.worker("second")
    site.ends(first, "FAILURE")
    site.logs(first, f"its process {process} on {os.uname().nodename} is gone")
    again = until(lambda: site.ui.retry_of(first))
    site.ends(again, "SUCCESS")
    assert site.ui.process(again) != process
    computed, reused = site.ui.computed_and_reused(again)
    assert not reused
    # what the first worker finished is not computed again
    finished = site.ui.computed_and_reused(first)[0]
    assert {"raw_mnist", "train_set", "test_set"} <= set(finished)
    assert not set(finished) & set(computed)

    desk = site.deployed.machine("desk")
    completed = desk.cli("status", "--verify", "--json")
    assert completed.returncode == 0, completed.stderr
    statuses = json.loads(completed.stdout)["assets"]
    assert {asset["key"]: asset["data_version"] for asset in statuses} == furnished.versions()
    assert {asset["status"] for asset in statuses} == {"fresh"}
    assert all(asset["path"].startswith("s3://digits/pipeline/") for asset in statuses)
    # no machine has anything of the store, the one with the worker included
    assert not list(site.deployed.folder.rglob("*.skops"))

    # a worker reuses what another one computed, and a machine without a worker does, too
    splits = site.ui.launch("refresh", "train_set", "test_set")
    site.ends(splits, "SUCCESS")
    assert site.ui.computed_and_reused(splits) == ([], ["test_set", "train_set"])
    second.stop()
    done = json.loads(desk.cli("run", "--json").stdout)
    assert set(done["materialized"]) == NEVER_REUSED
    assert set(done["reused"]) == ASSETS - NEVER_REUSED


@pytest.mark.slow
def test_a_run_that_is_terminated_on_its_worker_is_canceled_and_not_launched_again(
    site: Site,
) -> None:
    worker = site.deployed.worker("of the canceled")
    with site.endless():
        run_id = site.ui.launch()
        process = site.ui.process(run_id)
        assert site.ui.terminate(run_id) == "TerminateRunSuccess"
        site.ends(run_id, "CANCELED")
        until(lambda: not Path(f"/proc/{process}").exists())
        before = len(site.ui.runs())
        time.sleep(6)
        assert len(site.ui.runs()) == before
    worker.stop()


@pytest.mark.slow
def test_a_killed_process_of_a_worker_is_found_and_its_run_launched_again_on_the_same_worker(
    site: Site,
) -> None:
    worker = site.deployed.worker("of the killed")
    with site.endless():
        run_id = site.ui.launch()
        os.kill(site.ui.process(run_id), signal.SIGKILL)
        site.ends(run_id, "FAILURE")
        again = until(lambda: site.ui.retry_of(run_id))
        assert site.ui.process(again) in servers.processes_of(worker)
        assert site.ui.terminate(again) == "TerminateRunSuccess"
        site.ends(again, "CANCELED")
    worker.stop()


@pytest.mark.slow
def test_a_run_outlives_the_loss_of_broker_and_history_and_what_is_queued_waits_for_the_broker(
    site: Site,
) -> None:
    worker = site.deployed.worker("of the outage", "--concurrency", "2")
    with site.endless():
        run_id = site.ui.launch()
        process = site.ui.process(run_id)
        site.deployed.broker.stop()
        queued = site.ui.launch("refresh", "raw_mnist")
        site.logs(queued, "does not answer")
        site.logs(queued, "The run goes back to the queue.")
        assert site.ui.terminate(run_id) == "TerminateRunFailure"
        assert "The run's process cannot be asked to stop." in site.ui.log(run_id)
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
        until(lambda: site.ui.terminate(run_id) == "TerminateRunSuccess", pause=3)
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
