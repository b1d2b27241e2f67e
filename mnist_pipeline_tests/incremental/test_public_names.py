"""The engine stands alone: what its import loads, and its public names."""

import subprocess
import sys

import pytest

import mnist_pipeline.incremental as engine
from mnist_pipeline.config.settings import PROJECT


def modules(code: str) -> set[str]:
    """The modules that are loaded after some code, in a process of its own."""
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout
    return set(printed.split())


def of_others(loaded: set[str]) -> set[str]:
    """The modules of this project that are not the engine's."""
    own = "mnist_pipeline.incremental"
    project = {name for name in loaded if name.partition(".")[0] == "mnist_pipeline"}
    return {name for name in project if name != own and not name.startswith(f"{own}.")} - {
        "mnist_pipeline"
    }


def test_the_import_of_the_engine_loads_no_other_module_of_the_project_nor_dagster() -> None:
    loaded = modules("import mnist_pipeline.incremental")
    assert of_others(loaded) == set()
    assert "dagster" not in loaded


def test_every_public_name_can_be_used_and_loads_no_other_module_of_the_project() -> None:
    names = ", ".join(engine.__all__)
    loaded = modules(f"from mnist_pipeline.incremental import {names}")
    assert of_others(loaded) == set()
    for heavy in ("pandas", "sklearn", "matplotlib", "boto3", "psycopg2", "celery"):
        assert heavy not in loaded


def test_digests_checks_and_errors_are_used_without_dagster() -> None:
    loaded = modules(
        "from mnist_pipeline.incremental import CheckResult, PipelineError, content_digest"
    )
    assert "dagster" not in loaded


@pytest.mark.parametrize("name", engine.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert getattr(engine, name).__doc__


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(engine, "of_another_library")


def test_every_module_of_the_engine_loads_no_other_module_of_the_project() -> None:
    files = (PROJECT / "mnist_pipeline" / "incremental").glob("*.py")
    names = [file.stem for file in files if file.stem not in {"__init__", "celery_launcher"}]
    imports = "\n".join(f"import mnist_pipeline.incremental.{name}" for name in names)
    assert of_others(modules(imports)) == set()
