"""A real `dagster dev` in a copy of the clone, driven through its GraphQL API."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.openml_server import OpenML, serve
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.webserver import Webserver, running, until


@pytest.fixture
def easy_params(tmp_path: Path) -> str:
    """Params that a model of 400 digits can meet."""
    file = tmp_path / "easy.toml"
    file.write_text("[floor]\nopenml = 0.5\n")
    return str(file)


def materialize_everything(webserver: Webserver) -> str:
    run_id = webserver.launch()
    until(lambda: webserver.status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"})
    assert webserver.status(run_id) == "SUCCESS"
    return run_id


def test_bare_dagster_dev_loads_runs_everything_and_keeps_its_history(clone: Clone) -> None:
    dev = ["dagster", "dev"]
    with running(dev, clone) as webserver:
        repository = webserver.repository()
        keys = {node["assetKey"]["path"][0] for node in repository["assetNodes"]}
        assert keys == set(ASSETS)
        run_id = materialize_everything(webserver)
    with running(dev, clone) as webserver:
        assert [(run["runId"], run["status"]) for run in webserver.runs()] == [(run_id, "SUCCESS")]
    # .env says sample, and the command line finds the same history in the same home
    assert [path.name for path in clone.data.glob("raw_mnist/*/*.gz")] == ["mnist_5k.csv.gz"]
    home = clone.data / "dagster_home"
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
    command: list[str], clone: Clone, small_arff: bytes, easy_params: str
) -> None:
    with serve(OpenML.of(small_arff)) as openml:
        variables = {
            "MNIST_SOURCE": "openml",
            "MNIST_OPENML_SERVER": openml.url,
            "MNIST_PARAMS": easy_params,
        }
        with running(command, clone, **variables) as webserver:
            materialize_everything(webserver)
        assert openml.downloads == 1
    files = [path.name for path in clone.data.glob("raw_mnist/*/*.gz")]
    assert files == ["mnist_784.arff.gz"]


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
