"""What import-linter cannot check: non-public Dagster, and what an import loads."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._annotations import is_public
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph, BaseAssetNode

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.conftest import House

PACKAGE = PROJECT / "mnist_pipeline"
ADAPTER = PACKAGE / "incremental" / "_dagster.py"
MODULES = sorted(PACKAGE.rglob("*.py"))
OUTSIDE = [file for file in MODULES if file != ADAPTER]

DAGSTER = [
    dg.AssetCheckEvaluation,
    dg.AssetExecutionContext,
    dg.AssetSelection,
    dg.AssetsDefinition,
    dg.DagsterEvent,
    dg.DagsterInstance,
    dg.DagsterRun,
    dg.Definitions,
    dg.EventLogEntry,
    dg.EventLogRecord,
    dg.InitLoggerContext,
    dg.InitResourceContext,
    dg.InputContext,
    dg.JobDefinition,
    dg.JobExecutionResult,
    dg.OpExecutionContext,
    dg.OutputContext,
    dg.RepositoryDefinition,
    dg.RunFailureSensorContext,
    dg.RunRecord,
    dg.ScheduleDefinition,
    dg.ScheduleEvaluationContext,
    dg.SensorDefinition,
    dg.SensorEvaluationContext,
    BaseAssetGraph,
    BaseAssetNode,
]
"""Classes of the objects that the package gets from Dagster."""

DATA = {
    # of a materialization's record
    "asset_materialization",
    # of a run and its record
    "asset_selection",
    "update_timestamp",
    # of the result of a check
    "check_name",
    "severity",
    "target_materialization_data",
}
"""Plain fields of records, documented but not marked as public."""

OTHERS = (ast.Assign, ast.comprehension, dict, list, Path, str, tuple)
"""Python's own classes whose attributes have names as non-public ones of Dagster have."""


def attributes(tree: ast.AST) -> Iterator[str]:
    """Yield the attributes that a module uses, but for those of what it imports by name."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {
        alias.asname or alias.name
        for node in imports
        for alias in node.names
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster"))
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if not (isinstance(node.value, ast.Name) and node.value.id in modules):
            yield node.attr


def own(tree: ast.AST) -> Iterator[str]:
    """Yield the fields and methods of the classes in a module."""
    for definition in ast.walk(tree):
        for node in definition.body if isinstance(definition, ast.ClassDef) else []:
            if isinstance(node, ast.FunctionDef):
                yield node.name
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id


def members(owner: type) -> Iterator[tuple[str, bool]]:
    """Yield the names of a class's members and fields, and whether each is public."""
    fields = inspect.get_annotations(owner)
    for name in {*dir(owner), *fields}:
        if not name.startswith("_"):
            marked = "public" in getattr(fields.get(name), "__metadata__", ())
            yield name, marked or is_public(inspect.getattr_static(owner, name, None))


@pytest.fixture(scope="module")
def non_public() -> set[str]:
    """Names of attributes that only non-public members of Dagster's classes have."""
    found = [member for owner in DAGSTER for member in members(owner)]
    public = {name for name, marked in found if marked}
    ours = {name for file in OUTSIDE for name in own(ast.parse(file.read_text()))}
    other = {name for one in OTHERS for name in [*dir(one), *getattr(one, "_fields", ())]}
    return {name for name, _ in found} - public - ours - other - DATA


def test_what_dagster_keeps_non_public_is_used_in_the_adapter_alone(non_public: set[str]) -> None:
    used = {
        str(file.relative_to(PACKAGE)): found
        for file in OUTSIDE
        if (found := non_public & set(attributes(ast.parse(file.read_text()))))
    }
    assert not used
    assert non_public & set(attributes(ast.parse(ADAPTER.read_text())))


@pytest.mark.parametrize(
    "code",
    [
        "instance.event_log_storage.get_event_records()",
        "instance.daemon_cursor_storage",
        "with dg.DagsterInstance.get() as one: one.run_storage.get_runs()",
        "job.asset_layer",
        "context.get_step_execution_context()",
        "definitions.resolve_asset_graph()",
        "graph.get(key).parent_keys",
        "from dagster import DagsterInstance\nDagsterInstance.from_ref(ref)",
    ],
)
def test_a_use_of_something_non_public_is_found(code: str, non_public: set[str]) -> None:
    assert non_public & set(attributes(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "instance.fetch_materializations(key, limit=1).records",
        "instance.get_run_by_id(run_id).tags",
        "context.log.info(context.run_id)",
        "from mnist_pipeline.incremental import _dagster\n_dagster.create_run(instance, job)",
        "Path(name).resolve()",
    ],
)
def test_a_use_of_something_public_passes(code: str, non_public: set[str]) -> None:
    assert not non_public & set(attributes(ast.parse(code)))


def imported(file: Path) -> set[str]:
    """Every name that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_only_the_adapter_imports_what_dagster_keeps_private() -> None:
    # import-linter sees of other packages only that they are imported
    private = [file for file in MODULES if any("dagster._" in name for name in imported(file))]
    assert private == [ADAPTER]


def test_of_joblib_only_what_runs_in_parallel_is_imported() -> None:
    # its files are pickles; pickle itself is in import-linter's contracts
    used = {name for file in MODULES for name in imported(file) if name.startswith("joblib")}
    assert used == {"joblib.Parallel", "joblib.delayed", "joblib.parallel_config"}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_the_definitions_imports_neither_sklearn_nor_matplotlib() -> None:
    loaded = run_python(
        "import sys\n"
        "from mnist_pipeline.definitions import build\n"
        "from mnist_pipeline.config.settings import Settings\n"
        "settings = Settings.load(MNIST_DATA_DIR='s3://bucket/prefix')\n"
        "build(settings).load().get_repository_def().get_all_jobs()\n"
        "print(*sys.modules)"
    ).split()
    assert "mnist_pipeline.digits.model.pipeline" in loaded
    for heavy in ("sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "skops", "joblib"):
        assert heavy not in loaded
    extras = ("boto3", "botocore", "celery", "kombu", "redis")
    for extra in (*extras, "psycopg2"):
        assert extra not in loaded


def test_a_run_in_which_nothing_changed_opens_no_model_and_draws_nothing(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in furnished.environment.items():
        monkeypatch.setenv(name, value)
    loaded = run_python(
        "import sys\n"
        "from mnist_pipeline.config.settings import Settings\n"
        "from mnist_pipeline.definitions import build\n"
        "with build(Settings.load()).session() as session:\n"
        "    print(session.run().computed, *sys.modules, sep='\\n')"
    ).split("\n")
    assert loaded[0] == "['raw_mnist', 'champion_model']"
    assert "pyarrow" in loaded
    for heavy in ("sklearn", "skops", "matplotlib"):
        assert heavy not in loaded


def test_the_engine_loads_no_other_module_of_this_package() -> None:
    loaded = run_python(
        "import sys\n"
        "from mnist_pipeline.incremental import *\n"
        "assert Pipeline and Session\n"
        "print(*sys.modules)"
    ).split()
    ours = {name for name in loaded if name.startswith("mnist_pipeline.")}
    assert "mnist_pipeline.incremental.engine" in ours
    assert all(f"{name}.".startswith("mnist_pipeline.incremental.") for name in ours)


def test_the_leaf_modules_of_the_engine_load_no_dagster() -> None:
    run_python(
        "import sys\n"
        "sys.modules['dagster'] = None\n"
        "from mnist_pipeline.incremental import CheckResult, PipelineError, content_digest\n"
    )


def test_the_digits_work_where_dagster_cannot_be_imported() -> None:
    printed = run_python(
        "import importlib, pkgutil, sys\n"
        "sys.modules['dagster'] = None\n"
        "from mnist_pipeline import digits\n"
        "for module in pkgutil.walk_packages(digits.__path__, 'mnist_pipeline.digits.'):\n"
        "    importlib.import_module(module.name)\n"
        "from mnist_pipeline.digits.params import ModelParams\n"
        "from mnist_pipeline.digits.data import validation\n"
        "from mnist_pipeline.digits.data.split import split\n"
        "from mnist_pipeline.digits.evaluation import metrics\n"
        "from mnist_pipeline.digits.model import prediction, training\n"
        "from mnist_pipeline.digits.sources import sample\n"
        "from mnist_pipeline.digits.sources.formats import decode\n"
        "drawn = split(decode(sample.read()), test_size=0.2, random_state=42)\n"
        "parts = validation.hold_out(drawn.train, size=0.1, random_state=42)\n"
        "model = training.fit(ModelParams(), parts)\n"
        "print(metrics.evaluate(prediction.predict(model, drawn.test)).accuracy)"
    )
    assert 0.96 < float(printed) < 1
