"""Fixtures: copies of the toy package, edited as text and loaded anew for each session."""

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.incremental import AssetStatus, Pipeline, RunResult, Session
from mnist_pipeline.incremental.history import Materialization, newest

PACKAGE = Path(__file__).parent / "toy"

ALL = ["source", "left", "group/right", "total", "summary"]


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(name)


@dataclass
class Toy:
    """A copy of the toy package, with its params, source, store and history beside it.

    `said` holds what sessions reported.
    """

    folder: Path
    said: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path) -> "Toy":
        shutil.copytree(PACKAGE, folder / "toy", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "params.json").write_text('{"factor": 2}')
        (folder / "numbers.txt").write_text("1\n2\n3\n")
        return cls(folder)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text in a file of the package; it must be there."""
        path = self.folder / "toy" / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    def set_factor(self, factor: int) -> None:
        (self.folder / "params.json").write_text(json.dumps({"factor": factor}))

    def set_numbers(self, *numbers: int) -> None:
        (self.folder / "numbers.txt").write_text("".join(f"{one}\n" for one in numbers))

    def load(self, **more: Any) -> Pipeline:
        """Import the package anew, as a process that starts now does; `more` go to `Pipeline`."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        pipeline: Pipeline = importlib.import_module("toy.pipeline").build(**more)
        return pipeline

    @contextlib.contextmanager
    def session(self, **more: Any) -> Iterator[Session]:
        """The package as it is now, opened in this process."""
        with self.load(**more).session(self.said.append) as session:
            yield session

    def refresh(self, *, verify: bool = False, **more: Any) -> RunResult:
        with self.session(**more) as session:
            return session.refresh(verify=verify)

    def run(self, *names: str, force: bool = False, **more: Any) -> RunResult:
        """Materialize these assets, or all."""
        with self.session(**more) as session:
            return session.run([key(name) for name in names] or None, force=force)

    def status(self, *, verify: bool = False, **more: Any) -> Mapping[str, AssetStatus]:
        with self.session(**more) as session:
            return of(session, verify=verify)

    def words(self, **more: Any) -> dict[str, str]:
        """The state of each asset, in a word."""
        return {name: one.status for name, one in self.status(**more).items()}

    def made(self, name: str) -> Materialization:
        """The newest materialization of an asset."""
        with self.session() as session:
            return newest_of(session, name)

    def versions(self) -> dict[str, str | None]:
        return {name: one.data_version for name, one in self.status().items()}

    def path(self, name: str) -> Path:
        """The file of the newest materialization of an asset."""
        return Path(self.status()[name].path or "")

    def code_versions(self, **more: Any) -> dict[str, str]:
        found = self.load(**more).code_versions
        return {one.to_user_string(): version.digest for one, version in found.items()}

    def hold(self, step: str) -> None:
        """Let a step wait in its middle, in any process, until `release`."""
        (self.folder / f"hold-{step.replace('/', '-')}").touch()

    def release(self, step: str) -> None:
        (self.folder / f"hold-{step.replace('/', '-')}").unlink()

    def is_computing(self, step: str) -> bool:
        """Whether a step was begun since `calls` was last asked for."""
        file = self.folder / "calls"
        return file.exists() and step in file.read_text().split()

    def calls(self) -> list[str]:
        """The steps that were computed since this was last asked for, sorted."""
        file = self.folder / "calls"
        found = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return sorted(found)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start Python with some code in which `session` is open, in a process of its own."""
        lines = "\n    ".join(code.strip().splitlines())
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import json, os, signal, sys, time\n"
                "import dagster as dg\n"
                "from toy.pipeline import build\n"
                "say = lambda text: print(text, file=sys.stderr, flush=True)\n"
                f"with build().session(say) as session:\n    {lines}\n",
            ],
            env=os.environ | {"PYTHONPATH": f"{self.folder}:{PROJECT}"},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def of(session: Session, *, verify: bool = False) -> dict[str, AssetStatus]:
    """The state of each asset, by its name."""
    return {one.to_user_string(): found for one, found in session.status(verify=verify).items()}


def newest_of(session: Session, name: str) -> Materialization:
    found = newest(session.instance, key(name))
    assert found
    return found


def run_ids(session: Session) -> list[str]:
    """The runs that Dagster knows, newest first."""
    return [run.run_id for run in session.instance.get_runs()]


def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import the toy of a folder."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # restored at the end, whatever a session sets
    monkeypatch.setenv("TOY_CALLS", str(folder / "calls"))
    monkeypatch.syspath_prepend(folder)
    # an edit within the same second is an edit
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture
def new_toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A toy of which nothing was made yet."""
    folder = tmp_path / "project"
    here(folder, monkeypatch)
    return Toy.make(folder)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = Toy.make(tmp_path_factory.mktemp("toy") / "project")
    with pytest.MonkeyPatch.context() as monkeypatch:
        here(toy.folder, monkeypatch)
        assert toy.refresh().computed
        toy.calls()
    return toy.folder


@pytest.fixture
def toy(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A toy of which everything was made once."""
    folder = tmp_path / "project"
    here(folder, monkeypatch)
    shutil.copytree(_made, folder)
    return Toy(folder)
