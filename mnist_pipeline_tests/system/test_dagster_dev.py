"""How the UI starts, stops and is killed, in a copy of the project; `test_ui` has what it does."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import Clone
from mnist_pipeline_tests.support.webserver import Webserver, running, until

HELD = (
    "mnist_pipeline/assets/raw_mnist.py",
    "        access = _access(",
    "        context.log.info(f'held; the source is {source}')\n"
    "        while True:\n"
    "            time.sleep(0.1)\n"
    "        access = _access(",
)
"""An edit of the project after which the first step of a run never ends."""


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
def test_a_run_outlives_a_killed_ui_and_one_whose_process_is_killed_is_launched_again(
    clone: Clone,
) -> None:
    clone.edit(*HELD)
    # the environment beats the settings file
    clone.edit("settings.env", "MNIST_SOURCE=sample", "MNIST_SOURCE=openml")
    environment = clone.environment(MNIST_SOURCE="sample")
    held = "held; the source is sample"

    def kill_parts(webserver: Webserver) -> None:
        """Kill webserver and daemon: `dagster dev` ends."""
        port = f"--port {webserver.port}"
        lines = processes()
        [dev] = [pid for pid, line in lines.items() if "dagster dev" in line and port in line]
        children = Path(f"/proc/{dev}/task/{dev}/children").read_text().split()
        for part in ("dagster._daemon", "dagster_webserver"):
            [victim] = [int(pid) for pid in children if part in lines[int(pid)]]
            os.kill(victim, signal.SIGKILL)
        until(lambda: "Dagster services shut down" in webserver.output())

    ui = ["mnist_pipeline.cli", "ui"]
    with running(ui, clone.folder, environment) as webserver:
        assert listening(webserver.port) == {"0100007F"}, "127.0.0.1 and nothing else"
        run_id = webserver.launch()
        worker = webserver.process(run_id, held)
        kill_parts(webserver)
        with running(ui, clone.folder, environment) as webserver:
            assert f"run {run_id} is in progress and goes on" in webserver.output()
            assert webserver.status(run_id) == "STARTED"
            assert worker in processes()
            # code servers outlive the others, and would note that their worker died
            for pid in [*ancestors(worker), worker]:
                os.kill(pid, signal.SIGKILL)
            report = f"run {run_id} was interrupted: its process {worker} on "
            assert report in clone.cli("status", MNIST_SOURCE="sample").stderr
            assert webserver.status(run_id) == "FAILURE"
            assert f"its process {worker} on " in webserver.log(run_id)
            # the daemon launches again what did not fail by itself
            again = until(lambda: webserver.retry_of(run_id))
            assert webserver.process(again, held) != worker


def test_a_read_only_webserver_shows_everything_and_launches_nothing(
    furnished_clone: Clone,
) -> None:
    readme = (PROJECT / "SECURITY.md").read_text()
    [line] = re.findall(r"^\$ DAGSTER_HOME=\S+ \.venv/bin/(dagster-webserver .*)$", readme, re.M)
    command = line.replace("dagster-webserver", "dagster_webserver").split()
    del command[(at := command.index("--port")) : at + 2]
    home = str(furnished_clone.data / "dagster_home")
    environment = furnished_clone.environment(DAGSTER_HOME=home)
    with running(command, furnished_clone.folder, environment) as webserver:
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
