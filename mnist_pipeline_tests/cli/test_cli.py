"""The command line as a user runs it: a process of its own, its exit status, its one document."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from mnist_pipeline_tests.assets.test_pipeline import ASSETS
from mnist_pipeline_tests.conftest import COMMAND, House
from mnist_pipeline_tests.support.browser import browser
from mnist_pipeline_tests.support.clones import Clone, Forked

KEYS = {"run_id", "status", "materialized", "reused", "seconds"}


def document(completed: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """Parse stdout, which must be one JSON document and nothing else."""
    found = json.loads(completed.stdout)
    assert isinstance(found, dict)
    return found


def test_run_makes_everything_and_its_run_shows_in_the_instance_of_the_ui(
    furnished: House, first_run: tuple[str, str]
) -> None:
    out, err = first_run
    found = json.loads(out)
    assert set(found) == KEYS
    assert found["status"] == "success"
    assert set(found["materialized"]) == set(ASSETS)
    assert found["reused"] == []
    run = furnished.instance.get_run_by_id(found["run_id"])
    assert run is not None
    assert run.is_success
    assert "decoded 5,000 digits" in err


def test_run_for_people_ends_with_accuracy_report_and_what_to_do_next(furnished: House) -> None:
    completed = furnished.process("run")
    assert completed.returncode == 0, completed.stderr
    assert "accuracy   9" in completed.stdout
    assert str(furnished.made("report").path) in completed.stdout
    assert "make ui" in completed.stdout
    assert "make run SOURCE=openml" in completed.stdout


def test_report_prints_where_the_newest_one_is_and_opens_it(
    furnished: House, tmp_path: Path
) -> None:
    file = furnished.made("report").path
    assert document(furnished.cli("report", "--json")) == {"path": str(file)}
    completed = furnished.cli("report", "--open", variables=browser(tmp_path / "opened"))
    assert completed.stdout == f"{file}\n"
    assert (tmp_path / "opened").read_text() == file.as_uri()
    file.unlink()
    completed = furnished.cli("report", "--open", variables=browser(tmp_path / "not"))
    assert completed.returncode == 1
    assert "report is missing from the store" in completed.stderr
    assert not (tmp_path / "not").exists()


def test_before_the_first_report_the_command_names_what_makes_one(house: House) -> None:
    completed = house.cli("report", "--json")
    assert completed.returncode == 1
    found = document(completed)
    assert found["path"] is None
    assert "there is no report yet: run `mnist-pipeline refresh`" in str(found["error"])


def test_select_and_force_choose_what_is_materialized_and_what_is_computed(
    furnished: House,
) -> None:
    select = ["run", "--json", "--select", "key:evaluation+"]
    found = document(furnished.cli(*select))
    assert found["materialized"] == ["champion_model"]
    assert found["reused"] == ["evaluation", "report"]
    found = document(furnished.cli(*select, "--force"))
    assert found["materialized"] == ["evaluation", "champion_model", "report"]
    assert found["reused"] == []
    history = document(furnished.cli("history", "--limit", "6", "--json"))["materializations"]
    assert isinstance(history, list)
    assert [(one["asset"], one["reused_from"] is None) for one in history] == [
        ("report", True), ("champion_model", True), ("evaluation", True),
        ("report", False), ("champion_model", True), ("evaluation", False),
    ]  # fmt: skip


@pytest.mark.parametrize("select", ["nothing_like_it", "key:nothing_like_it", ")(", "status:STALE"])
def test_a_selection_of_nothing_is_wrong_usage(select: str, forked: Forked) -> None:
    completed = forked.cli("run", "--json", "--select", select)
    assert completed.returncode == 2
    found = document(completed)
    assert found["status"] == "failure"
    assert select in str(found["error"])


def test_a_run_that_fails_exits_with_1_and_leaves_the_artifacts_that_were_there(
    furnished: House,
) -> None:
    before = furnished.versions()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": url}
    completed = furnished.cli("run", "--json", variables=away)
    assert completed.returncode == 1
    found = document(completed)
    assert set(found) == KEYS | {"error"}
    assert (found["status"], found["materialized"]) == ("failure", [])
    assert f"- {url}/api/v1/json/data/list" in str(found["error"])
    assert "refused (3 attempts)" in str(found["error"])
    assert "MNIST_SOURCE=sample" in str(found["error"])
    assert "Traceback" not in completed.stderr
    assert furnished.versions() == before


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MNIST_SOURCE": "kaggle"}, "MNIST_SOURCE = 'kaggle' is not allowed"),
        ({"MNIST_OPENML_SERVER": "nowhere"}, "MNIST_OPENML_SERVER = 'nowhere' is not allowed"),
        ({"DAGSTER_HOME": "/dev/null/home"}, "DAGSTER_HOME: cannot use /dev/null/home"),
        ({"MNIST_PARAMS": "/nowhere.toml"}, "MNIST_PARAMS: cannot read /nowhere.toml"),
    ],
)
def test_wrong_settings_exit_with_2_and_one_message(
    variables: dict[str, str], message: str, forked: Forked
) -> None:
    for arguments in (["run", "--json"], ["run"], ["ui"]):
        completed = forked.cli(*arguments, **variables)
        assert completed.returncode == 2
        assert "Traceback" not in completed.stderr
        if "--json" in arguments:
            assert message in str(document(completed)["error"])
        else:
            assert completed.stdout == ""
            assert message in completed.stderr


def test_wrong_params_exit_with_2_and_name_file_and_key(
    furnished_forked: Forked, params: Callable[[str], str]
) -> None:
    before = furnished_forked.status()
    file = params("[model]\nalpha = -1.0\n")
    completed = furnished_forked.cli("run", "--json", MNIST_PARAMS=file)
    assert completed.returncode == 2
    assert f"{file}: model.alpha = -1.0 is not allowed" in str(document(completed)["error"])
    assert furnished_forked.status() == before


def test_an_unknown_option_exits_with_2_and_is_a_document_too(forked: Forked) -> None:
    completed = forked.cli("run", "--json", "--all")
    assert completed.returncode == 2
    assert "--all" in str(document(completed)["error"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # the document is the command's, whatever other words are among the arguments
        (["predict", "--json", "status"], {}),
        (["history", "run", "--json"], {"materializations": []}),
        (["gc", "--json"], {"dry_run": True, "removed": [], "runs": []}),
        (["gc", "--keep", "--json"], {"dry_run": True, "removed": [], "runs": []}),
        (["status", "--all", "--json"], {"assets": []}),
        (["statsu", "--json"], {}),
        (["ui", "--json"], {}),
        (["predict", "--jso"], None),
    ],
)
def test_a_failure_is_the_commands_own_document_or_a_message(
    arguments: list[str], expected: dict[str, object] | None, forked: Forked
) -> None:
    completed = forked.cli(*arguments)
    assert completed.returncode in {1, 2}
    assert "Traceback" not in completed.stderr
    if expected is None:
        assert completed.stdout == ""
        assert "Error: " in completed.stderr
    else:
        found = document(completed)
        assert found.pop("error")
        assert found == expected


@pytest.mark.parametrize("arguments", [["--debug", "run"], ["run", "--debug"], ["run"]])
def test_debug_prints_where_a_step_failed(arguments: list[str], house: House) -> None:
    # no server is at the address that the tests name
    variables = {"MNIST_SOURCE": "openml"}
    completed = house.cli(*arguments, "--select", "raw_mnist", "--json", variables=variables)
    assert completed.returncode == 1
    assert "refused (3 attempts)" in str(document(completed)["error"])
    assert ("mnist_pipeline/digits/sources/openml.py" in completed.stderr) == (
        "--debug" in arguments
    )


def test_a_dagster_yaml_of_ones_own_in_the_home_is_left_alone(house: House) -> None:
    file = house.folder / "dagster_home" / "dagster.yaml"
    assert file.read_text().startswith("# Generated.")
    assert str(house.folder) not in file.read_text(), "a copy of the home keeps its own history"
    own = "telemetry:\n  enabled: false\npython_logs:\n  python_log_level: ERROR\n"
    file.write_text(own)
    assert house.cli("run", "--json", "--select", "raw_mnist").returncode == 0
    assert file.read_text() == own


def test_a_ui_for_others_says_what_it_opens(house: House) -> None:
    host = "0.0.0.0"
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_pipeline.cli", "ui", "--host", host, "--port", "0"],
        env=os.environ | house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Dagster UI at" in line:
                break
        port = int(re.findall(r":(\d+)/", lines[-1])[0])
        answers = {}
        for name in (socket.gethostname(), host, "evil.example"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/", headers={"Host": f"{name}:{port}"})
            answers[name] = connection.getresponse().status
            connection.close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert f"Listening on {host}: everyone" in "".join(lines)
    assert "SECURITY.md" in "".join(lines)
    assert answers == {socket.gethostname(): 200, host: 200, "evil.example": 400}


def test_a_damaged_history_is_one_message_and_nothing_in_the_store_changes(
    furnished_forked: Forked,
) -> None:
    [runs] = furnished_forked.data.glob("dagster_home/history/runs.db")
    whole = runs.read_bytes()
    runs.write_bytes(b"no database" * 1000)
    for command in ("status", "refresh", "run"):
        completed = furnished_forked.cli(command, "--json")
        assert completed.returncode == 1
        error = json.loads(completed.stdout)["error"]
        assert f"history in {runs.parents[1]} cannot be used: file is not a database" in error
        assert "Traceback" not in completed.stderr
    runs.write_bytes(whole)
    assert furnished_forked.json("refresh", "--verify")["materialized"] == []


@pytest.mark.parametrize("host", ["", "not.a.host.invalid"])
def test_a_ui_for_nowhere_is_wrong_usage(host: str, forked: Forked) -> None:
    completed = forked.cli("ui", "--host", host)
    assert completed.returncode == 2
    assert f"--host {host!r} is not an address" in completed.stderr


@pytest.mark.parametrize(
    ("signal_number", "in_background"), [(signal.SIGINT, False), (signal.SIGTERM, True)]
)
def test_an_interrupted_run_is_still_one_document(
    signal_number: signal.Signals,
    in_background: bool,
    furnished: House,
    params: Callable[[str], str],
) -> None:
    # raw pixels and no tolerance: many epochs of fitting are left when the signal comes
    endless = params('[model]\npreset = "tutorial"\ntol = 0.0\nalpha = 1e-9\nmax_iter = 1000000\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_pipeline.cli", "run", "--json", "--select", "sgd_model"],
        env=os.environ | furnished.environment | {"MNIST_PARAMS": endless},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # as a script does for what it starts in the background
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_IGN if in_background else signal.SIG_DFL
        ),
    )
    assert process.stderr is not None
    assert any("fitting preset" in line for line in process.stderr)
    time.sleep(1)
    process.send_signal(signal_number)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert json.loads(out)["status"] == "failure"


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["history"]])
def test_a_full_or_closed_stdout_is_named_in_one_line(command: list[str], furnished: House) -> None:
    for redirection, said in ((">&-", "stdout is closed"), ("> /dev/full", "stdout cannot be w")):
        done = subprocess.run(
            f"exec {sys.executable} {' '.join([*COMMAND, *command])} {redirection}",
            shell=True,
            env=os.environ | furnished.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {said}")
        assert done.stderr.count("\n") == 1


def test_the_version_is_the_packages(house: House) -> None:
    installed = version("dagster-mnist-pipeline")
    assert house.cli("--version").stdout == f"mnist-pipeline, version {installed}\n"


def test_where_nothing_changed_status_and_refresh_answer_the_same_without_dagster(
    furnished_clone: Clone, tmp_path: Path
) -> None:
    clone = furnished_clone

    def answer(*arguments: str) -> tuple[str, bool]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "mnist_pipeline.cli", *arguments],
            env=clone.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return re.sub(r'"seconds": [0-9.]+', "", done.stdout), " dagster\n" in done.stderr

    for command in (["refresh"], ["refresh", "--json"], ["status"], ["status", "--json"]):
        before, slow = answer(*command)
        assert slow
        assert answer(*command) == (before, False)
    # a check of the project's own may depend on anything
    own = "mnist_pipeline/assets/own.py"
    mine = "def mine() -> dg.AssetCheckResult:\n    return dg.AssetCheckResult(passed=True)\n"
    clone.edit(own, "CHECKS: list", f'@dg.asset_check(asset="raw_mnist")\n{mine}\n\nCHECKS: list')
    clone.edit(own, "AssetChecksDefinition] = []", "AssetChecksDefinition] = [mine]")
    assert [answer("status")[1] for _ in range(2)] == [True, True]

    evaluation = clone.status()["evaluation"]["path"]
    Path(evaluation).unlink()
    after, slow = answer("status")
    assert slow
    assert "its file is gone" in after
