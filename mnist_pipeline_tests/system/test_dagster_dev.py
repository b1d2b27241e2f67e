"""How the UI starts, stops and is killed, in a copy of the project; `test_ui` has what it does."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import Clone
from mnist_pipeline_tests.support.servers import free_port
from mnist_pipeline_tests.support.webserver import Webserver, running, until

UI = ["mnist_pipeline.cli", "ui"]

HELD = (
    "mnist_pipeline/assets/raw_mnist.py",
    "        access = _access(",
    "        import time\n"
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


def ui_and_daemons(webserver: Webserver) -> tuple[int, list[int]]:
    """The process of a UI, and those of its daemons."""
    lines = processes()
    [ui] = [pid for pid, line in lines.items() if f"cli ui --port {webserver.port}" in line]
    children = Path(f"/proc/{ui}/task/{ui}/children").read_text().split()
    return ui, [int(pid) for pid in children if "incremental.ui run" in lines[int(pid)]]


needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")


@needs_proc
def test_a_run_outlives_a_killed_ui_and_one_whose_process_is_killed_is_launched_again(
    clone: Clone,
) -> None:
    clone.edit(*HELD)
    # the environment beats the settings file
    clone.edit("settings.env", "MNIST_SOURCE=sample", "MNIST_SOURCE=openml")
    environment = clone.environment(MNIST_SOURCE="sample")
    held = "held; the source is sample"

    with running(UI, clone.folder, environment) as first:
        assert listening(first.port) == {"0100007F"}, "127.0.0.1 and nothing else"
        run_id = first.launch()
        worker = first.process(run_id, held)
        ui, [daemon] = ui_and_daemons(first)
        os.kill(ui, signal.SIGKILL)
        until(lambda: not processes().get(daemon), seconds=10)
        with running(UI, clone.folder, environment) as webserver:
            killed = f"the last UI (process {ui} at {first.url}/) was killed"
            assert killed in webserver.output()
            assert len(ui_and_daemons(webserver)[1]) == 1
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


needs_script = pytest.mark.skipif(
    shutil.which("script") is None, reason="needs script(1) for a terminal"
)


@needs_script
def test_on_a_terminal_daemon_and_runs_log_in_colours(clone: Clone) -> None:
    with running(UI, clone.folder, clone.environment(), terminal=True) as webserver:
        run_id = webserver.launch("verify")
        webserver.over(run_id)
        until(lambda: "RUN_SUCCESS" in webserver.output(), seconds=30)
        lines = webserver.output().splitlines()
    of_run = [line for line in lines if run_id in line]
    of_daemon = [line for line in lines if "dagster.daemon" in line]
    assert of_daemon
    assert of_run
    assert all("\x1b[" in line for line in [*of_daemon, *of_run])


@needs_script
def test_with_no_color_a_run_on_a_terminal_logs_without_colours(
    clone: Clone, tmp_path: Path
) -> None:
    module = ["--module-name", "mnist_pipeline.definitions"]
    program = [sys.executable, "-m", "dagster", "asset", "materialize", *module]
    program += ["--select", "raw_mnist"]
    log = tmp_path / "terminal.log"
    subprocess.run(
        ["script", "--quiet", "--command", shlex.join(program), str(log)],
        env=clone.environment(NO_COLOR="1"),
        cwd=clone.folder,
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    assert "RUN_SUCCESS" in log.read_text()
    assert "\x1b[" not in log.read_text()


@needs_proc
def test_a_ui_is_the_only_one_of_its_home_starts_again_after_ctrl_c_and_ends_without_its_daemon(
    clone: Clone,
) -> None:
    first = clone.popen("ui", "--port", "0")
    assert first.stdout is not None
    assert "Dagster UI at http://127.0.0.1:" in first.stdout.readline()
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert "Traceback" not in errors

    with running(UI, clone.folder, clone.environment()) as webserver:
        ui, [daemon] = ui_and_daemons(webserver)
        assert f"Dagster UI at {webserver.url}/" in webserver.output()
        for word in ("Warning", "killed", "Listening on"):
            assert word not in webserver.output()
        until(lambda: "dagster.daemon" in webserver.output())
        assert "\x1b" not in webserver.output(), "colours go to terminals only"
        for port in (webserver.port, free_port()):
            second = clone.cli("ui", "--port", str(port))
            assert second.returncode == 2
            assert f"runs already: process {ui} at {webserver.url}/." in second.stderr
        assert ui_and_daemons(webserver) == (ui, [daemon])
        assert webserver.repository()
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not processes().get(ui), seconds=30)
        assert "Dagster's daemon ended, and the UI with it" in webserver.output()


def test_a_ui_on_a_port_that_is_taken_starts_nothing(clone: Clone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        completed = clone.cli("ui", "--port", str(port))
    assert completed.returncode == 2
    assert f"--port {port} cannot be used on 127.0.0.1: Address already in use" in completed.stderr
    assert completed.stdout == ""


def test_dagster_dev_in_the_clone_has_the_same_history_and_no_ui_beside_it(clone: Clone) -> None:
    with running(["dagster", "dev"], clone.folder, clone.environment()) as webserver:
        until(webserver.daemons)
        completed = clone.cli("ui", "--port", str(free_port()))
        assert completed.returncode == 2
        assert "another daemon of " in completed.stderr


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
