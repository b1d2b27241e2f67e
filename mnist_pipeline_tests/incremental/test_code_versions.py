"""Code versions: what a step reads and runs counts, and nothing else does."""

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnist_pipeline.incremental import _dagster, open_store, sqlite
from mnist_pipeline.incremental.code_version import CodeVersion, plain
from mnist_pipeline_tests.incremental.conftest import ALL, Toy

PARSING = {"left", "group/right"}


@pytest.fixture
def changed(new_toy: Toy) -> Callable[[], set[str]]:
    """The steps whose code version is not the one at first."""
    before = new_toy.code_versions()
    assert set(before) == set(ALL)

    def since() -> set[str]:
        now = new_toy.code_versions()
        return {name for name in before if before[name] != now[name]}

    return since


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("numbers.py", "    return found", "    # all\n    return found", id="comment"),
        pytest.param("numbers.py", "Return the numbers in", "Find those in", id="docstring"),
        pytest.param("numbers.py", '"""What is allowed."""', '"""Limits."""', id="of a class"),
        pytest.param("numbers.py", '"""The arithmetic."""', "", id="of a module"),
        pytest.param("numbers.py", "text: str) -> list[int]", "text)", id="annotations"),
        pytest.param("numbers.py", "found: list[int] = []", "found = []", id="of a variable"),
        pytest.param(
            "numbers.py", "[int(line)]", "[\n            int( line )\n        ]", id="format"
        ),
        pytest.param("display.py", '"how many": len(numbers)', '"sum": sum(numbers)', id="display"),
        pytest.param("pipeline.py", '"name": "toy"', '"name": "other"', id="the pipeline itself"),
    ],
)
def test_what_changes_no_result_does_not_count(
    file: str, old: str, new: str, new_toy: Toy, changed: Callable[[], set[str]]
) -> None:
    new_toy.edit(file, old, new)
    assert changed() == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        pytest.param("numbers.py", "int(line)", "int(line) + 1", PARSING, id="an expression"),
        pytest.param("numbers.py", "found", "numbers", PARSING, id="a variable's name"),
        pytest.param("numbers.py", "least: int = 1", "least: int = 0", PARSING, id="a field"),
        pytest.param(
            "numbers.py", "most: int | None = 100", "most: float | None = 100", PARSING,
            id="the annotation of a field",
        ),
        pytest.param("numbers.py", "len(numbers) >=", "len(numbers) >", PARSING, id="a check"),
        pytest.param("left.py", "* factor", "+ factor", {"left"}, id="the step itself"),
        pytest.param("total.py", "str(value)", "hex(value)", {"total"}, id="a codec of its own"),
        pytest.param("page/page.html", "<p>", "<b>", {"summary"}, id="a data file"),
        pytest.param("page/__init__.py", '" ".join', '"-".join', {"summary"}, id="a package"),
        pytest.param("helpers.py", "0.01", "0.02", set(ALL), id="what all steps use"),
        pytest.param(
            "__init__.py", 'summary."""', 'summary."""\n\nMORE = 1', set(ALL), id="the package"
        ),
    ],
)  # fmt: skip
def test_an_edit_counts_for_the_steps_that_reach_it(
    file: str,
    old: str,
    new: str,
    counts: set[str],
    new_toy: Toy,
    changed: Callable[[], set[str]],
) -> None:
    new_toy.edit(file, old, new)
    assert changed() == counts


def test_absolute_and_relative_imports_count_the_same_also_inside_functions(
    new_toy: Toy, changed: Callable[[], set[str]]
) -> None:
    new_toy.edit("right.py", "from .numbers import parse\n", "")
    new_toy.edit(
        "right.py", '    called("group/right")\n',
        '    from toy.numbers import parse\n\n    called("group/right")\n',
    )  # fmt: skip
    assert changed() == {"group/right"}
    reached = new_toy.load().code_versions
    sources = {one.to_user_string(): set(version.sources) for one, version in reached.items()}
    assert "toy/numbers.py" in sources["group/right"]
    assert sources["total"] == {"toy/__init__.py", "toy/helpers.py", "toy/total.py"}
    assert not any("display" in file for files in sources.values() for file in files)
    assert not any("mnist_pipeline" in file for files in sources.values() for file in files)


def test_what_editors_leave_beside_a_package_does_not_count(
    new_toy: Toy, changed: Callable[[], set[str]]
) -> None:
    for name in (".page.html.swp", "page.html~", ".DS_Store", "#page.html#", ".#page.html"):
        (new_toy.folder / "toy" / "page" / name).write_bytes(b"\0")
    assert changed() == set()


def test_a_param_counts_for_the_steps_that_require_it(
    new_toy: Toy, changed: Callable[[], set[str]]
) -> None:
    new_toy.set_factor(3)
    assert changed() == {"left"}


def test_where_things_are_kept_does_not_count(new_toy: Toy, tmp_path: Path) -> None:
    before = new_toy.code_versions()
    shutil.copytree(new_toy.folder / "toy", tmp_path / "elsewhere" / "toy")
    (tmp_path / "elsewhere" / "params.json").write_text('{"factor": 2}')
    code = (
        "from toy.pipeline import build\n"
        "for key, version in build(cron='@daily').code_versions.items():\n"
        "    print(key.to_user_string(), version.digest)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env={"PYTHONPATH": f".:{Path(__file__).parents[2]}", "PATH": "", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout
    assert dict(line.split() for line in printed.splitlines()) == before


def libraries(toy: Toy, name: str) -> dict[str, str]:
    found = toy.load().code_versions
    return next(dict(one.libraries) for key, one in found.items() if key.to_user_string() == name)


def test_libraries_that_are_imported_count_by_distribution_and_minor_version(
    new_toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    minor = ".".join(importlib.metadata.version("pandas").split(".")[:2])
    assert libraries(new_toy, "left") == {"pandas": minor}
    assert libraries(new_toy, "group/right") == {}, "neither Python's own, nor Dagster"
    new_toy.edit(
        "right.py", "from .numbers", "import yaml\nimport not_installed_at_all\nfrom .numbers"
    )
    stub = new_toy.folder / "not_installed_at_all.py"
    stub.write_text("")
    assert set(libraries(new_toy, "group/right")) == {"PyYAML"}
    before = new_toy.code_versions()
    version = importlib.metadata.version

    def pandas_is(number: str) -> dict[str, str]:
        monkeypatch.setattr(
            "mnist_pipeline.incremental.code_version.version",
            lambda name: number if name == "pandas" else version(name),
        )
        return new_toy.code_versions()

    assert pandas_is(f"{minor}.99") == before
    after = pandas_is("99.1.0")
    assert {name for name in ALL if after[name] != before[name]} == {"left", "total", "summary"}


def test_a_module_that_does_not_parse_is_named(new_toy: Toy) -> None:
    pipeline = new_toy.load()
    new_toy.edit("numbers.py", "return found", "return (found")
    with pytest.raises(SyntaxError, match=r"numbers\.py"):
        _ = pipeline.code_versions


def test_models_of_params_count_by_their_values() -> None:
    class Params(BaseModel):
        alpha: float = 0.1
        names: tuple[str, ...] = ("a",)

    assert plain(Params()) == {"alpha": 0.1, "names": ["a"]}
    assert plain("text") == "text"


def test_the_difference_of_two_code_versions_is_described() -> None:
    before = CodeVersion(
        {"a.py": "1", "b.py": "1"}, {"numpy": "2.0"}, {"model_params": {"tol": None}, "source": "x"}
    )
    now = CodeVersion(
        {"a.py": "2", "c.py": "1"}, {"numpy": "2.1"}, {"model_params": {"eta": None}, "source": "y"}
    )
    assert now.changes_since(asdict(before)) == [
        "code changed in a.py",
        "code no longer used: b.py",
        "code now used: c.py",
        "library changed: numpy 2.0 -> 2.1",
        "params changed: model.eta (absent) -> None",
        "params changed: model.tol None -> (absent)",
        "setting changed: source x -> y",
    ]
    assert now.changes_since(asdict(now)) == []
    assert now.changes_since("of another version") == []


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Toy, str], list[str]]:
    """Why a worker runs no step of the definitions that a code server, the first caller, loaded."""
    carried: list[Mapping[str, Any]] = []

    def load(toy: Toy, store: str) -> list[str]:
        def carry(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
            carried.append(content)
            return carried[0] if len(carried) > 1 else None

        monkeypatch.setattr(_dagster, "carried", carry)
        pipeline = toy.load(store=open_store(store, locks=tmp_path))
        pipeline.load()
        return pipeline.engine.stopped

    return load


def test_a_worker_stops_before_the_first_step_if_definitions_changed(
    new_toy: Toy, worker: Callable[[Toy, str], list[str]]
) -> None:
    assert worker(new_toy, "store") == []
    assert worker(new_toy, "store") == []
    new_toy.edit("numbers.py", "int(line)", "int(line) + 1")
    [why] = worker(new_toy, "store")
    assert why.startswith("the definitions of group/right, left changed since they were loaded")


def test_a_worker_keeps_the_history_open_and_a_code_server_does_not(
    new_toy: Toy,
    worker: Callable[[Toy, str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(sqlite, "keep_open_until_exit", kept.append)
    worker(new_toy, "store")
    assert kept == []
    worker(new_toy, "store")
    assert kept == [new_toy.folder / "home"]


def test_a_worker_with_another_store_stops_before_the_first_step(
    new_toy: Toy, worker: Callable[[Toy, str], list[str]]
) -> None:
    assert worker(new_toy, "s3://bucket/one") == []
    [why] = worker(new_toy, "s3://bucket/other")
    assert why.startswith("the store is s3://bucket/other where the run is to be executed")
