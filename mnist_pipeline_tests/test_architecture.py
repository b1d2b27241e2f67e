"""The two rooms, and what loading the definitions costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.settings import PROJECT

PACKAGE = PROJECT / "mnist_pipeline"
DIGITS = sorted((PACKAGE / "digits").rglob("*.py"))
ORCHESTRATION = sorted((PACKAGE / "orchestration").rglob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


DOORS = ("mnist_pipeline.definitions", "mnist_pipeline.running", "mnist_pipeline.cli")


@pytest.mark.parametrize("file", DIGITS, ids=name)
def test_a_module_of_the_digits_imports_no_dagster_and_no_orchestration(file: Path) -> None:
    for module in imported(file):
        assert not module.startswith(("dagster", "mnist_pipeline.orchestration", *DOORS))


@pytest.mark.parametrize("file", ORCHESTRATION, ids=name)
def test_a_module_of_the_orchestration_imports_no_door(file: Path) -> None:
    assert not [module for module in imported(file) if module.startswith(DOORS)]


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_only_the_adapter_imports_what_dagster_keeps_private(file: Path) -> None:
    private = [module for module in imported(file) if module.startswith("dagster._")]
    assert bool(private) == (name(file) == "orchestration/provenance.py")


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_no_module_imports_pickle(file: Path) -> None:
    assert not imported(file) & {"pickle", "cloudpickle", "joblib.dump", "joblib.load", "dill"}


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_every_module_says_what_belongs_in_it(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    assert docstring
    assert len(docstring.splitlines()) <= 8


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_a_module_is_at_most_250_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 250


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_loading_the_definitions_imports_neither_sklearn_nor_matplotlib() -> None:
    loaded = run_python(
        "import sys\n"
        "from mnist_pipeline.definitions import build_definitions\n"
        "from mnist_pipeline.settings import Settings\n"
        "settings = Settings.load(MNIST_DATA_DIR='s3://bucket/prefix')\n"
        "build_definitions(settings).get_repository_def().get_all_jobs()\n"
        "print(*sys.modules)"
    ).split()
    assert "mnist_pipeline.digits.classifier" in loaded
    for heavy in ("sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "skops", "joblib"):
        assert heavy not in loaded
    extras = ("boto3", "botocore", "celery", "kombu", "redis")
    for extra in (*extras, "psycopg2"):
        assert extra not in loaded


def test_the_digits_work_where_dagster_cannot_be_imported() -> None:
    printed = run_python(
        "import sys\n"
        "sys.modules['dagster'] = None\n"
        "from mnist_pipeline.digits import metrics, prediction, sample, training, validation\n"
        "from mnist_pipeline.digits.split import split\n"
        "from mnist_pipeline.digits.table import decode\n"
        "from mnist_pipeline.params import ModelParams\n"
        "drawn = split(decode(sample.read()), test_size=0.2, random_state=42)\n"
        "parts = validation.hold_out(drawn.train, size=0.1, random_state=42)\n"
        "model = training.fit(ModelParams(), parts)\n"
        "print(metrics.evaluate(prediction.predict(model, drawn.test)).accuracy)"
    )
    assert 0.96 < float(printed) < 1
