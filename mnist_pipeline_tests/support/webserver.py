"""A running Dagster UI, driven through its GraphQL API."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

REPOSITORIES = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    name location { name } assetNodes { assetKey { path } } jobs { name }
} } ... on PythonError { message } } }"""
LAUNCH = """mutation ($params: ExecutionParams!) {
    launchPipelineExecution(executionParams: $params) {
        ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    }
}"""
REEXECUTE = """mutation ($params: ReexecutionParams!) {
    launchRunReexecution(reexecutionParams: $params) {
        ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    }
}"""
TIMELINE = """query ($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100) {
    ... on Runs { results {
        runId pipelineName status repositoryOrigin { repositoryName repositoryLocationName }
    } }
} }"""
UNSYNCED = """{ assetNodes { assetKey { path } staleStatus isMaterializable jobNames
    assetChecksOrError { ... on AssetChecks { checks { name jobNames } } }
} }"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNS = """{ runsOrError { ... on Runs { results {
    runId status jobName startTime tags { key value } assetSelection { path }
} } } }"""
SWITCH = """mutation ($selector: {Kind}Selector!) {{
    {verb}{Kind}({kind}Selector: $selector) {{ __typename }}
}}"""
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
CRON = """query ($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) {
    ... on Schedule { cronSchedule }
} }"""
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { healthy } } } }"
STALE = "{ assetNodes { assetKey { path } staleStatus staleCauses { reason } } }"
STEPS = (
    "query ($id: ID!) { runOrError(runId: $id) { ... on Run { stepStats { stepKey status } } } }"
)
EVENTS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {
    events { __typename ... on MessageEvent { message }
             ... on ErrorEvent { error { message } } }
} } }"""

MATERIALIZATIONS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {
    events { ... on MaterializationEvent { assetKey { path } metadataEntries { label } } }
} } }"""

FROM_UI = {"tags": [{"key": "dagster/from_ui", "value": "true"}]}


class Webserver:
    """The GraphQL API of a running UI."""

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

    def daemons(self) -> bool:
        """Whether a daemon gave a heartbeat a short time ago."""
        health = self.ask(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return any(one["healthy"] for one in health)

    def repository(self) -> Any:
        nodes = self.ask(REPOSITORIES)["repositoriesOrError"]
        return nodes["nodes"][0] if nodes.get("nodes") else None

    def launch(self, job: str = "refresh", *assets: str, config: object = None) -> str:
        """Launch a job, or some assets of it, as the UI does."""
        selector: dict[str, Any] = self._named("job", job)
        if assets:
            selector["assetSelection"] = [{"path": [asset]} for asset in assets]
        params = {"selector": selector, "runConfigData": config or {}, "mode": "default"}
        params["executionMetadata"] = FROM_UI
        launched = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        return str(launched["run"]["runId"])

    def materialize(self, wanted: set[str] | None = None) -> str:
        """Launch assets, by default all, as the UI's graph of all assets does."""
        job = "__ASSET_JOB"
        nodes = [
            node
            for node in self.ask(UNSYNCED)["assetNodes"]
            if job in node["jobNames"] and (wanted is None or node["assetKey"]["path"][0] in wanted)
        ]
        checks = [
            {"assetKey": node["assetKey"], "name": check["name"]}
            for node in nodes
            for check in node["assetChecksOrError"].get("checks", [])
            if job in check["jobNames"]
        ]
        selector: dict[str, Any] = self._named("job", job)
        selector["assetSelection"] = [node["assetKey"] for node in nodes]
        selector["assetCheckSelection"] = checks
        params = {"selector": selector, "runConfigData": "{}", "mode": "default"}
        params["executionMetadata"] = FROM_UI
        launched = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        return str(launched["run"]["runId"])

    def execute_again(self, run_id: str, strategy: Literal["ALL_STEPS", "FROM_FAILURE"]) -> str:
        """Launch a run again, as the button on its page does."""
        params = {"parentRunId": run_id, "strategy": strategy}
        launched = self.ask(REEXECUTE, params=params)["launchRunReexecution"]
        return str(launched["run"]["runId"])

    def timeline(self, job: str) -> dict[str, Any]:
        """The runs on the page of a job, by id: those of the repository, by its tag."""
        repository = self.repository()
        names = repository["name"], repository["location"]["name"]
        of = {"key": ".dagster/repository", "value": "@".join(names)}
        found = self.ask(TIMELINE, filter={"pipelineName": job, "tags": [of]})
        results = found["runsOrError"]["results"]
        # the timeline puts a run into the row of its repository
        row = dict(zip(("repositoryName", "repositoryLocationName"), names, strict=True))
        return {run["runId"]: run for run in results if run["repositoryOrigin"] == row}

    def over(self, run_id: str) -> str:
        """Wait for the end of a run and return its status."""
        until(lambda: self.status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"}, seconds=300)
        return self.status(run_id)

    def computed_and_reused(self, run_id: str) -> tuple[list[str], list[str]]:
        """What a run materialized: the assets that it computed, and those that it reused."""
        made = self.materialized(run_id)
        reused = [asset for asset, labels in made.items() if "reused_from" in labels]
        return [asset for asset in made if asset not in reused], reused

    def terminate(self, run_id: str) -> str:
        """Ask a run's process to stop; return the kind of the answer."""
        return str(self.ask(TERMINATE, id=run_id)["terminateRun"]["__typename"])

    def retry_of(self, run_id: str) -> str | None:
        """The run by which Dagster launched a run again."""
        tag = "dagster/parent_run_id"
        found = [run["runId"] for run in self.runs() if run["tags"].get(tag) == run_id]
        return str(found[0]) if found else None

    def steps(self, run_id: str) -> dict[str, str]:
        """The steps that the page of a run shows, with their status."""
        found = self.ask(STEPS, id=run_id)["runOrError"]["stepStats"]
        return {step["stepKey"]: step["status"] for step in found}

    def process(self, run_id: str, text: str = "fitting preset") -> int:
        """Wait until a run's log has a text; return the id of its process."""
        until(lambda: text in self.log(run_id))
        return int(re.findall(r"Started process for run \(pid: (\d+)\)", self.log(run_id))[-1])

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

    def start(self, kind: Literal["schedule", "sensor"], name: str) -> None:
        """Turn a schedule or a sensor on."""
        started = self._switch("start", kind, name)
        assert next(iter(started.values()))["__typename"] in {"ScheduleStateResult", "Sensor"}

    def stop(self, kind: Literal["schedule", "sensor"], name: str) -> None:
        """Turn a schedule or a sensor off that is off by default."""
        self._switch("reset", kind, name)

    def _switch(self, verb: str, kind: Literal["schedule", "sensor"], name: str) -> Any:
        query = SWITCH.format(verb=verb, kind=kind, Kind=kind.capitalize())
        return self.ask(query, selector=self._named(kind, name))

    def cron(self, name: str) -> str:
        """When a schedule ticks."""
        found = self.ask(CRON, selector=self._named("schedule", name))["scheduleOrError"]
        return str(found["cronSchedule"])

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
        return {"/".join(node["assetKey"]["path"]): node["staleStatus"] for node in nodes}

    def log(self, run_id: str) -> str:
        """The log of a run."""
        events = self.ask(EVENTS, id=run_id)["logsForRun"]["events"]
        texts = [(event["message"], (event.get("error") or {}).get("message")) for event in events]
        return "\n".join(text for pair in texts for text in pair if text)

    def _named(self, kind: str, name: str) -> dict[str, str]:
        repository = self.repository()
        return {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            f"{kind}Name": name,
        }


def until(found: Callable[[], Any], seconds: float = 300, pause: float = 0.5) -> Any:
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
def running(
    command: list[str], folder: Path, environment: Mapping[str, str], *, terminal: bool = False
) -> Iterator[Webserver]:
    """Run a command that serves the UI in a folder, and kill all of it at the end.

    It prints to a file, or (`terminal`) to a terminal of which the file is a copy.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder.parent / f"ui-{port}.log"
    program = [sys.executable, "-m", *command, "--port", str(port)]
    if terminal:
        program = ["script", "--quiet", "--flush", "--command", shlex.join(program), str(log)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            program,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if terminal else out,
            stderr=subprocess.DEVNULL if terminal else out,
            start_new_session=True,
        )
    webserver = Webserver(port, log)

    def answers() -> Any:
        assert process.poll() is None, f"{command} ended with exit status {process.returncode}"
        return webserver.repository()

    try:
        until(answers)
        yield webserver
    except AssertionError:
        print(log.read_text()[-5000:])  # noqa: T201 - what pytest shows of a failure
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
