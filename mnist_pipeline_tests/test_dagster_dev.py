"""A real `dagster dev` in a copy of the clone, driven through its GraphQL API."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.settings import PROJECT
from mnist_pipeline_tests.openml_server import OpenML, serve
from mnist_pipeline_tests.test_pipeline import ASSETS

FILES = ["mnist_pipeline", "workspace.yaml", "dagster.yaml", "params.toml", "pyproject.toml"]

REPOSITORIES = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    name location { name } assetNodes { assetKey { path } } jobs { name }
} } ... on PythonError { message } } }"""
LAUNCH = """mutation ($params: ExecutionParams!) {
    launchPipelineExecution(executionParams: $params) {
        ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    }
}"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"


@pytest.fixture
def easy_params(tmp_path: Path) -> str:
    """Params that a model of 400 digits can meet."""
    file = tmp_path / "easy.toml"
    file.write_text("[floor]\nopenml = 0.5\n")
    return str(file)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as a clone has it after `make install`."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "data").mkdir()
    for name in FILES:
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    shutil.copy(PROJECT / ".env.example", folder / ".env")
    return folder


def bare_environment(clone: Path) -> dict[str, str]:
    """No settings, and no path but the one to the interpreter; its packages come from the clone."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(clone.parent),
        "PYTHONPATH": str(clone),
    }


class Webserver:
    """The GraphQL API of a running `dagster dev`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["data"]

    def repository(self) -> Any:
        nodes = self.ask(REPOSITORIES)["repositoriesOrError"]
        return nodes["nodes"][0] if nodes.get("nodes") else None

    def launch_everything(self) -> str:
        repository = self.repository()
        selector = {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            "jobName": "retrain_all",
        }
        params = {"selector": selector, "runConfigData": {}, "mode": "default"}
        launched = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        return str(launched["run"]["runId"])

    def status(self, run_id: str) -> str:
        return str(self.ask(STATUS, id=run_id)["runOrError"]["status"])

    def runs(self) -> dict[str, str]:
        results = self.ask(RUNS)["runsOrError"]["results"]
        return {run["runId"]: run["status"] for run in results}


def until(found: Callable[[], Any], seconds: float = 150) -> Any:
    """Ask again until the answer is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            if answer := found():
                return answer
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


@contextmanager
def running(command: list[str], clone: Path, cwd: Path, **variables: str) -> Iterator[Webserver]:
    """Run a command that serves the UI, and kill all of it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = clone.parent / f"ui-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            env=bare_environment(clone) | variables,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        webserver = Webserver(port)
        until(webserver.repository)
        yield webserver
    except AssertionError:
        print(log.read_text()[-5000:])  # noqa: T201 - what pytest shows of a failure
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def materialize_everything(webserver: Webserver) -> str:
    run_id = webserver.launch_everything()
    until(lambda: webserver.status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"})
    assert webserver.status(run_id) == "SUCCESS"
    return run_id


def test_bare_dagster_dev_loads_runs_everything_and_keeps_its_history(clone: Path) -> None:
    dev = ["dagster", "dev"]
    with running(dev, clone, clone) as webserver:
        repository = webserver.repository()
        keys = {node["assetKey"]["path"][0] for node in repository["assetNodes"]}
        assert keys == set(ASSETS)
        run_id = materialize_everything(webserver)
    with running(dev, clone, clone) as webserver:
        assert webserver.runs() == {run_id: "SUCCESS"}
    # .env says sample, and the command line finds the same history in the same home
    assert [path.name for path in (clone / "data").glob("raw_mnist/*/*.gz")] == ["mnist_5k.csv.gz"]
    home = clone / "data" / "dagster_home"
    assert (home / "history" / "runs.db").exists()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["mnist_pipeline.cli", "ui"], id="mnist-pipeline ui"),
        pytest.param(
            ["dagster", "dev"],
            id="bare dagster dev",
            marks=pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc"),
        ),
    ],
)
def test_the_environment_beats_dotenv_in_the_ui(
    command: list[str], clone: Path, small_arff: bytes, easy_params: str
) -> None:
    with serve(OpenML.of(small_arff)) as openml:
        variables = {
            "MNIST_SOURCE": "openml",
            "MNIST_OPENML_SERVER": openml.url,
            "MNIST_PARAMS": easy_params,
        }
        with running(command, clone, clone, **variables) as webserver:
            materialize_everything(webserver)
        assert openml.downloads == 1
    files = [path.name for path in (clone / "data").glob("raw_mnist/*/*.gz")]
    assert files == ["mnist_784.arff.gz"]


def test_dagster_definitions_validate_passes_in_the_clone(clone: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate"],
        env=bare_environment(clone),
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
