"""A real `dagster dev` in a copy of the clone, driven through its GraphQL API."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import ASSETS, ENDLESS, FAST, Clone
from mnist_pipeline_tests.support.openml_server import OpenML, serve
from mnist_pipeline_tests.support.webserver import Webserver, running, until


def materialize(webserver: Webserver, *assets: str) -> str:
    """Materialize some assets, or all, in a run that must end well."""
    run_id = webserver.launch("refresh", *assets)
    assert webserver.over(run_id) == "SUCCESS", webserver.log(run_id)[-3000:]
    return run_id


def test_bare_dagster_dev_loads_runs_everything_and_shares_its_history_with_the_command_line(
    clone: Clone,
) -> None:
    with running(["dagster", "dev"], clone) as webserver:
        repository = webserver.repository()
        keys = {node["assetKey"]["path"][0] for node in repository["assetNodes"]}
        assert keys == ASSETS
        assert {"refresh", "recompute_all"} <= {job["name"] for job in repository["jobs"]}
        run_id = materialize(webserver)
    # settings.env chooses the sample; the command line finds the same history in the same home
    assert [path.name for path in clone.data.glob("raw_mnist/*/*.gz")] == ["mnist_5k.csv.gz"]
    assert (clone.data / "dagster_home" / "history" / "runs.db").exists()
    made = clone.json("history", "--limit", "100")["materializations"]
    assert [one["run_id"] for one in made] == [run_id] * len(ASSETS)
    assert {one["trigger"] for one in made} == {"the UI"}
    assert {found["status"] for found in clone.status().values()} == {"fresh"}


@pytest.mark.parametrize("command", [["mnist_pipeline.cli", "ui"], ["dagster", "dev"]])
def test_the_environment_beats_the_settings_file_in_the_ui(
    command: list[str], clone: Clone, small_arff: bytes
) -> None:
    with serve(OpenML.of(small_arff)) as openml:
        variables = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": openml.url}
        with running(command, clone, **variables) as webserver:
            materialize(webserver, "raw_mnist")
        assert openml.downloads == 1
    files = [path.name for path in clone.data.glob("raw_mnist/*/*.gz")]
    assert files == ["mnist_784.arff.gz"]


@pytest.mark.parametrize("command", [["dagster"], ["mnist_pipeline.cli", "status"]])
def test_a_dotenv_file_that_names_settings_is_refused_by_dagster_and_the_command_line(
    command: list[str], clone: Clone
) -> None:
    (clone.folder / ".env").write_text("OTHER=1\nMNIST_SOURCE=sample\n")
    validate = ["definitions", "validate"] if command == ["dagster"] else []
    completed = subprocess.run(
        [sys.executable, "-m", *command, *validate],
        env=clone.environment(MNIST_SOURCE="openml"),
        cwd=clone.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode != 0
    said = completed.stdout + completed.stderr
    assert f"{clone.folder / '.env'} names MNIST_SOURCE" in said
    assert "move these lines to" in said


def processes() -> dict[int, str]:
    """The command lines of all processes, by process id."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[int(file.parent.name)] = file.read_bytes().replace(b"\0", b" ").decode()
    return found


def ancestors(pid: int) -> list[int]:
    """The processes of Dagster above one, the nearest last."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    its_own = "dagster" in processes().get(parent, "")
    return [*ancestors(parent), parent] if its_own else []


def listening(port: int) -> set[str]:
    """The addresses on which something listens to a port, as Linux has them: hexadecimal."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    addresses = [line[1].split(":") for line in lines if line[3] == "0A"]
    return {address for address, its in addresses if int(its, 16) == port}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_a_run_outlives_a_killed_webserver_and_daemon_and_the_next_start_reports_what_happened(
    clone: Clone,
) -> None:
    clone.edit("params.toml", FAST, ENDLESS)

    def kill(webserver: Webserver, part: str) -> None:
        port = f"--port {webserver.port}"
        [dev] = [pid for pid, line in processes().items() if "dagster dev" in line and port in line]
        children = Path(f"/proc/{dev}/task/{dev}/children").read_text().split()
        lines = processes()
        [victim] = [int(pid) for pid in children if part in lines[int(pid)]]
        os.kill(victim, signal.SIGKILL)
        until(lambda: "Dagster services shut down" in webserver.output())

    ui = ["mnist_pipeline.cli", "ui"]
    with running(ui, clone) as webserver:
        assert listening(webserver.port) == {"0100007F"}, "127.0.0.1 and nothing else"
        run_id = webserver.launch()
        worker = webserver.process(run_id)
        kill(webserver, "dagster_webserver")
        with running(ui, clone) as webserver:
            assert f"run {run_id} is in progress and goes on" in webserver.output()
            assert webserver.status(run_id) == "STARTED"
            kill(webserver, "dagster._daemon")
            assert worker in processes()
            # code servers outlive the others, and would note that their worker died
            for pid in [*ancestors(worker), worker]:
                os.kill(pid, signal.SIGKILL)
            report = f"run {run_id} was interrupted: its process {worker} on "
            assert report in clone.cli("status").stderr
            # the daemon launches again what did not fail by itself
            with running(ui, clone) as webserver:
                assert webserver.status(run_id) == "FAILURE"
                assert f"its process {worker} on " in webserver.log(run_id)
                assert webserver.process(until(lambda: webserver.retry_of(run_id))) != worker


def test_a_read_only_webserver_shows_everything_and_launches_nothing(
    furnished_clone: Clone,
) -> None:
    readme = (PROJECT / "SECURITY.md").read_text()
    [line] = re.findall(r"^\$ DAGSTER_HOME=\S+ \.venv/bin/(dagster-webserver .*)$", readme, re.M)
    command = line.replace("dagster-webserver", "dagster_webserver").split()
    del command[(at := command.index("--port")) : at + 2]
    home = {"DAGSTER_HOME": str(furnished_clone.data / "dagster_home")}
    with running(command, furnished_clone, **home) as webserver:
        [run] = webserver.runs()
        assert run["status"] == "SUCCESS"
        with pytest.raises(KeyError, match="run"):
            webserver.launch()
        assert len(webserver.runs()) == 1


def test_dagster_definitions_validate_passes_in_the_clone(clone: Clone) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate"],
        env=clone.environment(),
        cwd=clone.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
