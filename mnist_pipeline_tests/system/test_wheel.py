"""The wheel, installed in a bare environment: it needs no clone."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import ASSETS
from mnist_pipeline_tests.support.webserver import STALE

UV = Path(sys.executable).with_name("uv")
FILES = {"params.toml", "settings.env", "workspace.yaml", "dagster.yaml"}


@dataclass
class Installed:
    """`mnist-pipeline` of an environment that has the wheel and what it needs, and nothing else."""

    script: Path
    user: Path
    """The home folder of a user."""

    def popen(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [self.script, *arguments],
            env={"HOME": str(self.user), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Run a command in a folder: exit status, stdout, stderr."""
        process = self.popen(folder, *arguments)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built from the project and installed at the locked versions."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = folder / "environment"

    def uv(*arguments: str | Path) -> int:
        return subprocess.run([UV, *arguments, "--quiet"], cwd=PROJECT, check=False).returncode

    assert uv("build", "--wheel", "--no-build-isolation", "--out-dir", folder) == 0
    [wheel] = folder.glob("dagster_mnist_pipeline-*.whl")
    assert uv("venv", "--python", sys.executable, environment) == 0
    python, lock = environment / "bin" / "python", PROJECT / "requirements.lock"
    install: list[str | Path] = ["pip", "install", "--python", python, "--constraint", lock, wheel]
    # all of it is in uv's cache where `make install` put it
    assert uv(*install, "--offline") == 0 or uv(*install) == 0
    return Installed(environment / "bin" / "mnist-pipeline", folder / "user")


@pytest.fixture(scope="module")
def project(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that `init` writes, and a variant in its params."""
    folder = tmp_path_factory.mktemp("initialized") / "project"
    status, _, errors = installed.cli(folder.parent, "init", "project")
    assert status == 0, errors
    with (folder / "params.toml").open("a") as params:
        params.write("[variants.mine]\nalpha = 1e-3\n")
    return folder


def test_in_an_empty_folder_a_run_computes_all_assets_into_a_folder_of_the_user(
    installed: Installed, tmp_path: Path
) -> None:
    status, out, errors = installed.cli(tmp_path, "run", "--json")
    assert status == 0, errors
    assert set(json.loads(out)["materialized"]) == ASSETS
    status, out, errors = installed.cli(tmp_path, "status", "--json")
    assert status == 0, errors
    found = json.loads(out)["assets"]
    assert {one["status"] for one in found} == {"fresh"}
    data = installed.user / ".local" / "share" / "mnist-pipeline" / "data"
    assert all(Path(one["path"]).is_relative_to(data) for one in found)
    assert list(tmp_path.iterdir()) == []


def test_init_writes_the_files_of_a_clone_and_overwrites_none(
    installed: Installed, project: Path
) -> None:
    for name in FILES:
        source = PROJECT / name.replace("settings.env", "settings.env.example")
        assert (project / name).read_text().startswith(source.read_text())
    before = {name: (project / name).read_bytes() for name in FILES}
    status, _, errors = installed.cli(project.parent, "init", "project")
    assert status == 2
    assert "params.toml" in errors
    assert before == {name: (project / name).read_bytes() for name in FILES}


def test_a_command_uses_the_params_of_the_folder_it_runs_in_and_keeps_data_there(
    installed: Installed, project: Path
) -> None:
    status, out, errors = installed.cli(project, "run", "--select", "+key:test_set", "--json")
    assert status == 0, errors
    assert set(json.loads(out)["materialized"]) == {"raw_mnist", "test_set"}
    assert len(list((project / "data" / "test_set").iterdir())) == 1
    status, _, errors = installed.cli(project, "promote", "theirs")
    assert status == 2
    assert f"{project / 'params.toml'} has no variant 'theirs'" in errors


def test_without_params_of_its_own_a_variant_is_refused_with_how_to_get_some(
    installed: Installed, tmp_path: Path
) -> None:
    status, _, errors = installed.cli(tmp_path, "promote", "small")
    assert status == 2
    assert "`mnist-pipeline init FOLDER`" in errors


@pytest.fixture
def ui(installed: Installed, project: Path) -> Iterator[str]:
    """The address of the UI, started in the project's folder."""
    process = installed.popen(project, "ui", "--port", "0")
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.communicate()[1]
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_the_ui_has_the_params_of_the_folder_that_it_was_started_in(ui: str) -> None:
    content = {"query": STALE}
    request = urllib.request.Request(
        f"{ui}graphql", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        nodes = json.load(answer)["data"]["assetNodes"]
    assert ["candidate", "mine"] in [node["assetKey"]["path"] for node in nodes]
