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
from pathlib import Path
from typing import Any, Literal

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
RUNS = """{ runsOrError { ... on Runs { results {
    runId status jobName startTime tags { key value } assetSelection { path }
} } } }"""
START_SCHEDULE = """mutation ($selector: ScheduleSelector!) {
    startSchedule(scheduleSelector: $selector) { __typename }
}"""
START_SENSOR = """mutation ($selector: SensorSelector!) {
    startSensor(sensorSelector: $selector) { __typename }
}"""
RELOAD = """mutation ($name: String!) {
    reloadRepositoryLocation(repositoryLocationName: $name) { __typename }
}"""
SENSOR_TICKS = """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
    ... on Sensor { sensorState { ticks { status skipReason runIds timestamp } } }
} }"""
SCHEDULE_TICKS = """query ($selector: ScheduleSelector!) {
    scheduleOrError(scheduleSelector: $selector) {
        ... on Schedule { scheduleState { ticks { status skipReason runIds timestamp } } }
    }
}"""
PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
    ... on AssetNode { partitionKeysByDimension { partitionKeys } }
} }"""
BACKFILL = """mutation ($params: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $params) {
        ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
    }
}"""
STALE = "{ assetNodes { assetKey { path } staleStatus staleCauses { reason } } }"
EVENTS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {
    events { __typename ... on MessageEvent { message }
             ... on ErrorEvent { error { message } } }
} } }"""

MATERIALIZATIONS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {
    events { ... on MaterializationEvent { assetKey { path } metadataEntries { label } } }
} } }"""


class Webserver:
    """The GraphQL API of a running `dagster dev`."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def output(self) -> str:
        """What it and its children have printed."""
        return self._log.read_text()

    def ask(self, query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["data"]

    def repository(self) -> Any:
        nodes = self.ask(REPOSITORIES)["repositoriesOrError"]
        return nodes["nodes"][0] if nodes.get("nodes") else None

    def launch(self, job: str = "retrain_all", *assets: str, config: object = None) -> str:
        """Launch a job, or some assets of it, as the UI does."""
        selector: dict[str, Any] = self._named("job", job)
        if assets:
            selector["assetSelection"] = [{"path": [asset]} for asset in assets]
        params = {"selector": selector, "runConfigData": config or {}, "mode": "default"}
        launched = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        return str(launched["run"]["runId"])

    def status(self, run_id: str) -> str:
        return str(self.ask(STATUS, id=run_id)["runOrError"]["status"])

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first, tags as a mapping and assets as a set."""
        results = self.ask(RUNS)["runsOrError"]["results"]
        for run in results:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
            run["assets"] = {key["path"][0] for key in run["assetSelection"] or []}
        return list(results)

    def materialized(self, run_id: str) -> dict[str, list[str]]:
        """The labels of the metadata of what a run materialized, by asset."""
        events = self.ask(MATERIALIZATIONS, id=run_id)["logsForRun"]["events"]
        return {
            "/".join(event["assetKey"]["path"]): [one["label"] for one in event["metadataEntries"]]
            for event in events
            if event
        }

    def partitions(self, asset: str) -> list[str]:
        """The partitions of an asset of one dimension."""
        node = self.ask(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        return list(node["partitionKeysByDimension"][0]["partitionKeys"])

    def backfill(self, assets: list[str], partitions: list[str]) -> str:
        """Launch a backfill of assets, as the UI does."""
        selection = [{"path": [asset]} for asset in assets]
        asked = {"assetSelection": selection, "partitionNames": partitions}
        return str(self.ask(BACKFILL, params=asked)["launchPartitionBackfill"]["backfillId"])

    def runs_of(self, backfill: str) -> list[dict[str, Any]]:
        """The runs of a backfill so far, newest first."""
        return [run for run in self.runs() if run["tags"].get("dagster/backfill") == backfill]

    def start(self, kind: Literal["schedule", "sensor"], name: str) -> None:
        """Turn a schedule or a sensor on."""
        started = self.ask(
            START_SCHEDULE if kind == "schedule" else START_SENSOR, selector=self._named(kind, name)
        )
        assert next(iter(started.values()))["__typename"] in {"ScheduleStateResult", "Sensor"}

    def ticks(self, kind: Literal["schedule", "sensor"], name: str) -> list[dict[str, Any]]:
        """The ticks of a schedule or a sensor, newest first."""
        found = self.ask(
            SCHEDULE_TICKS if kind == "schedule" else SENSOR_TICKS, selector=self._named(kind, name)
        )
        return list(found[f"{kind}OrError"][f"{kind}State"]["ticks"])

    def reload(self) -> None:
        """Load the definitions anew, as the button in the UI does."""
        self.ask(RELOAD, name=self.repository()["location"]["name"])
        until(self.repository)

    def stale(self) -> dict[str, str]:
        """The badge that the UI shows of each asset."""
        nodes = self.ask(STALE)["assetNodes"]
        return {node["assetKey"]["path"][0]: node["staleStatus"] for node in nodes}

    def log(self, run_id: str) -> str:
        """What a run's log says."""
        events = self.ask(EVENTS, id=run_id)["logsForRun"]["events"]
        said = [(event["message"], (event.get("error") or {}).get("message")) for event in events]
        return "\n".join(text for pair in said for text in pair if text)

    def _named(self, kind: str, name: str) -> dict[str, str]:
        repository = self.repository()
        return {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            f"{kind}Name": name,
        }


def until(found: Callable[[], Any], seconds: float = 150, pause: float = 0.5) -> Any:
    """Ask again until the answer is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            if answer := found():
                return answer
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)


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
        webserver = Webserver(port, log)
        until(webserver.repository)
        yield webserver
    except AssertionError:
        print(log.read_text()[-5000:])  # noqa: T201 - what pytest shows of a failure
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
