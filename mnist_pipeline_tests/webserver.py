"""A running `dagster dev`, driven through its GraphQL API."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mnist_pipeline_tests.clones import Clone

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
def running(command: list[str], clone: Clone, **variables: str) -> Iterator[Webserver]:
    """Run a command that serves the UI, and kill all of it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = clone.folder.parent / f"ui-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            env=clone.environment(**variables),
            cwd=clone.folder,
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
