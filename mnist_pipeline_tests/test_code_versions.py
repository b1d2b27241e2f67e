"""Code versions: what a step reads and runs makes it stale in the UI, and nothing else does."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from mnist_pipeline.definitions import ASSETS, build_definitions, inputs_of
from mnist_pipeline.incremental import _dagster, sources
from mnist_pipeline.incremental.code_version import Recipe, recipes, stop_if_changed
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.settings import PROJECT, Settings
from mnist_pipeline_tests.conftest import House

PRINT_VERSIONS = """
import json
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.incremental.code_version import Recipe
from mnist_pipeline.settings import Settings
graph = build_definitions(Settings.load()).resolve_asset_graph()
keys = graph.get_all_asset_keys()
print(json.dumps({key.to_user_string(): graph.get(key).code_version for key in keys}))
"""


def code_versions(house: House, **variables: str) -> dict[str, str | None]:
    graph = build_definitions(house.settings(**variables)).resolve_asset_graph()
    return {key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()}


def changed(before: dict[str, str | None], after: dict[str, str | None]) -> set[str]:
    assert None not in before.values()
    return {asset for asset in before if before[asset] != after[asset]}


@pytest.mark.parametrize(
    ("text", "stale"),
    [
        ("", set()),
        ("# a comment\n[model]\nalpha = 1e-5\n", set()),
        ("[floor]\nsample = 0.81\n", {"champion_model"}),
        ("[champion]\nlevel = 0.01\n", {"champion_model"}),
        ("[evaluation]\nleast_accuracy = 0.4\n", {"evaluation"}),
        ("[validation]\nsize = 0.2\n", {"sgd_model"}),
        ("[model]\nalpha = 0.001\n", {"sgd_model"}),
        ("[split]\nrandom_state = 7\n", {"train_set", "test_set"}),
    ],
)
def test_a_param_counts_for_the_steps_that_read_it(
    text: str, stale: set[str], house: House, params: Callable[[str], str]
) -> None:
    assert changed(code_versions(house), code_versions(house, MNIST_PARAMS=params(text))) == stale


def test_the_source_of_the_digits_counts_for_the_download_alone(house: House) -> None:
    assert changed(code_versions(house), code_versions(house, MNIST_SOURCE="openml")) == {
        "raw_mnist"
    }


def test_where_things_are_kept_or_asked_for_does_not_count(house: House, tmp_path: Path) -> None:
    elsewhere = {
        "MNIST_DATA_DIR": str(tmp_path / "elsewhere"),
        "MNIST_OPENML_SERVER": "http://127.0.0.1:9",
    }
    assert changed(code_versions(house), code_versions(house, **elsewhere)) == set()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(PROJECT / "mnist_pipeline", folder / "mnist_pipeline")
    shutil.copy(PROJECT / "params.toml", folder)
    return folder


@pytest.fixture
def versions(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str | None]]:
    """The code versions that follow from the source in the copy, read in this process."""
    monkeypatch.setattr(sources, "PROJECT", copy)

    def read() -> dict[str, str | None]:
        made_with = recipes(ASSETS, inputs_of(Settings.load()))
        return {key.to_user_string(): recipe.code_version for key, recipe in made_with.items()}

    return read


def versions_of_copy(folder: Path) -> dict[str, str | None]:
    """The code versions of the copy, loaded by a process of its own."""
    printed = subprocess.run(
        [sys.executable, "-B", "-c", PRINT_VERSIONS],
        env={"PYTHONPATH": str(folder), "MNIST_SOURCE": "sample", "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    return dict(json.loads(printed))


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("digits/training.py", "from joblib", "# a comment\n    from joblib", set()),
        ("digits/metrics.py", "Compare predictions with the labels", "Compare them", set()),
        (
            "digits/metrics.py",
            "least_accuracy: float) -> CheckResult",
            "least_accuracy) -> CheckResult",
            set(),
        ),
        ("assets/display.py", '"confusion matrix"', '"matrix"', set()),
        ("incremental/_dagster.py", "_HISTORY = 10_000", "_HISTORY = 10_001", set()),
        ("incremental/refresh.py", "wave = []", "wave = list()", set()),
        ("durable.py", "number = 1", "number = 2", set()),
        ("remote_store.py", "_ATTEMPTS = 5", "_ATTEMPTS = 6", set()),
        ("digits/figures.py", "cividis", "viridis", {"report"}),
        ("assets/lineage.py", "_HISTORY = 100", "_HISTORY = 101", set()),
        ("drawing/limits.py", "10_000_000", "20_000_000", set()),
        ("digits/report/page.js", "new Image(56, 56)", "new Image(57, 57)", {"report"}),
        # inside a function, an annotation says nothing that happens
        ("digits/features.py", "X = validate_data", "X: Any = validate_data", set()),
        (
            "digits/champion.py",
            "model_version: str | None = None\n",
            "model_version: str | None = ''\n",
            {"champion_model", "report"},
        ),
        ("digits/report/page.css", "16px", "17px", {"report"}),
        ("digits/transfer.py", "READ_SECONDS = 30.0", "READ_SECONDS = 31.0", {"raw_mnist"}),
        ("digits/rows.py", "MAX_LINE = CHUNK", "MAX_LINE = 2 * CHUNK", {"train_set", "test_set"}),
        ("digits/checks.py", "UNBALANCED = 0.5", "UNBALANCED = 0.4", {"train_set", "test_set"}),
        # the check of an asset is its step's own code
        (
            "digits/metrics.py",
            "evaluation.accuracy >= least_accuracy",
            "evaluation.accuracy > least_accuracy",
            {"evaluation", "champion_model", "report"},
        ),
    ],
)
def test_an_edit_counts_for_the_steps_that_reach_it(
    file: str,
    old: str,
    new: str,
    stale: set[str],
    copy: Path,
    versions: Callable[[], dict[str, str | None]],
) -> None:
    before = versions()
    edited = copy / "mnist_pipeline" / file
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new))
    assert changed(before, versions()) == stale


def test_what_editors_leave_beside_a_package_does_not_count(
    copy: Path, versions: Callable[[], dict[str, str | None]]
) -> None:
    before = versions()
    for name in (".page.html.j2.swp", "page.html.j2~", ".DS_Store", "#page.css#", ".#page.css"):
        (copy / "mnist_pipeline" / "digits" / "report" / name).write_bytes(b"\0")
    assert changed(before, versions()) == set()


def test_a_relative_import_counts_as_any_other(copy: Path) -> None:
    table = copy / "mnist_pipeline" / "digits" / "table.py"
    absolute = "from mnist_pipeline.digits import arff, idx, infinite, mnist, rows, sample"
    assert absolute in table.read_text()
    table.write_text(
        table.read_text().replace(absolute, absolute.replace("mnist_pipeline.digits", "."))
    )
    before = versions_of_copy(copy)
    rows = copy / "mnist_pipeline" / "digits" / "rows.py"
    rows.write_text(rows.read_text().replace("MAX_LINE = CHUNK", "MAX_LINE = 2 * CHUNK"))
    assert changed(before, versions_of_copy(copy)) == {"train_set", "test_set"}


def test_a_worker_with_another_store_stops_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, house: House
) -> None:
    graph = build_definitions(house.settings()).resolve_asset_graph()
    carried: list[str] = []
    monkeypatch.setattr(_dagster, "carried", lambda text: carried.append(text))
    stop_if_changed(graph, "s3://bucket/one")
    monkeypatch.setattr(_dagster, "carried", lambda text: carried[0])
    stop_if_changed(graph, "s3://bucket/one")
    with pytest.raises(SettingsError, match="MNIST_DATA_DIR is s3://bucket/other where the run"):
        stop_if_changed(graph, "s3://bucket/other")


def test_a_new_param_is_named_even_if_it_is_none() -> None:
    before = Recipe({"a.py": "1", "b.py": "1"}, {"numpy": "2.0"}, {"model_params": {"tol": None}})
    now = Recipe({"a.py": "2", "c.py": "1"}, {"numpy": "2.1"}, {"model_params": {"eta": None}})
    assert now.changes_since(asdict(before)) == [
        "code changed in a.py",
        "code no longer used: b.py",
        "code now used: c.py",
        "library changed: numpy 2.0 -> 2.1",
        "params changed: model.eta (absent) -> None",
        "params changed: model.tol None -> (absent)",
    ]
    assert now.changes_since(asdict(now)) == []
    assert now.changes_since("of another version") == []
