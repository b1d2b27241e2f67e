"""Fixtures: a clean environment, real digits, a house to run the pipeline in."""

import gzip
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from filelock import FileLock
from hypothesis import settings as hypothesis_settings

from mnist_pipeline.config.settings import PROJECT, Settings
from mnist_pipeline.definitions import build
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.incremental.instance import prepare
from mnist_pipeline.incremental.pipeline import Pipeline
from mnist_pipeline.incremental.session import RunResult, Session
from mnist_pipeline_tests.support.browser import chromium, html_errors, page_checks, violations
from mnist_pipeline_tests.support.clones import Clone, Forked
from mnist_pipeline_tests.support.openml_server import OpenML, serve
from mnist_pipeline_tests.support.processes import Processes

__all__ = ["chromium", "html_errors", "page_checks", "violations"]

SHARED = PROJECT.parent / "shared" / "openml"
"""The genuine mnist_784, where this machine has it."""

NEUTRAL = {
    "MNIST_SOURCE": "sample",
    "MNIST_OPENML_SERVER": "http://127.0.0.1:9",
    "MNIST_MIRRORS": "",
    "MNIST_PARAMS": str(PROJECT / "params.toml"),
}
"""Every setting that a settings.env of the developer could choose, and no way to the network."""

PIXEL_ATTRIBUTES = b"".join(b"@ATTRIBUTE pixel%d real\n" % number for number in range(1, 785))
HEADER = (
    b"@RELATION mnist_784\n\n"
    + PIXEL_ATTRIBUTES
    + b"@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}\n\n@DATA\n"
)


LONG = [
    "test_ui.py",
    "test_daemon.py",
    "test_dagster_dev.py",
    "test_champion.py",
    "test_drawing.py",
    "test_exposure.py",
]
"""The files that take longest, which cannot be shared between processes."""

_ROOM = 6 * 2**30
"""Bytes that the folders of all tests together stay below."""

# the numbers of inputs are in `test_hostile`
hypothesis_settings.register_profile("many")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pictures of the UI be kept, and say how long to torment."""
    parser.addoption("--screenshots", metavar="FOLDER", help="where pictures of the UI go")
    parser.addoption(
        "--kill-points", metavar="N", type=int, default=3, help="at how many a run is killed"
    )
    parser.addoption("--crowd-rounds", metavar="N", type=int, default=1, help="of eight processes")


def pytest_configure() -> None:
    """Keep the folders of tests in memory where it has room: a history waits for a disk often."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long files first: at the end none of them keeps one core waiting for another."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(
        key=lambda item: (
            places.get(item.path.name, len(LONG)),
            item.path.parent.name != "system",
        )
    )


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MNIST_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    for name, value in NEUTRAL.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def rows() -> list[bytes]:
    """500 real digits as lines of the sample's file, 50 a class."""
    return sample.read().unpacked().splitlines()[::10]


@pytest.fixture(scope="session")
def small_arff(rows: list[bytes]) -> bytes:
    """Those digits as an ARFF file."""
    return HEADER + b"\n".join(rows) + b"\n"


@pytest.fixture(scope="session")
def genuine() -> Archive:
    """All 70,000 digits of mnist_784."""
    file = SHARED / "mnist_784.arff.gz"
    if not file.exists():
        pytest.skip(
            f"the genuine mnist_784 is not on this machine ({SHARED.name} beside the project)"
        )
    return Archive(file.read_bytes(), file.name)


@pytest.fixture(scope="session")
def genuine_openml(genuine: Archive) -> OpenML:
    """What OpenML answers about it."""
    return OpenML(genuine.data, genuine.data_version)


@pytest.fixture
def small_openml(small_arff: bytes) -> OpenML:
    """What OpenML would answer if those digits were all it had."""
    return OpenML.of(small_arff)


def archive(arff: bytes) -> Archive:
    return Archive(gzip.compress(arff, 1), "mnist_784.arff.gz")


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# measured from a small process: a child's peak starts at what its parent held when it forked.
# Pages mapped from files are not counted where /proc says which those are
_MEASURED = """
import re, resource, subprocess, sys, time
from pathlib import Path
peak, done = 0, subprocess.Popen([sys.executable, *sys.argv[1:]])
status = Path("/proc", str(done.pid), "status")
while done.poll() is None:
    time.sleep(0.02)
    if status.exists() and (found := re.search(r"RssAnon:\\s+(\\d+) kB", status.read_text())):
        peak = max(peak, int(found[1]))
print(peak or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


COMMAND = ["-m", "mnist_pipeline.cli"]


@dataclass
class Materialized:
    """The newest materialization of an asset."""

    data_version: str
    metadata: dict[str, Any]
    tags: dict[str, str]
    storage_id: int
    path: Path


@dataclass
class House:
    """A data folder with its Dagster instance on disk, and the settings that lead there."""

    folder: Path
    instance: dg.DagsterInstance
    environment: dict[str, str]

    def settings(self, **variables: str) -> Settings:
        return Settings.load(**(self.environment | variables))

    def pipeline(self, variables: dict[str, str] | None = None, **more: Any) -> Pipeline:
        """The pipeline for this folder; `more` are arguments of `Pipeline`."""
        return replace(build(self.settings(**(variables or {}))), **more)

    def session(self, variables: dict[str, str] | None = None, **more: Any) -> Session:
        """The pipeline, opened in this process."""
        return Session(self.pipeline(variables, **more), self.instance, lambda text: None)

    def materialize(
        self,
        select: str | None = None,
        variables: dict[str, str] | None = None,
        *,
        force: bool = False,
        tags: dict[str, str] | None = None,
        **more: Any,
    ) -> RunResult:
        """Materialize a selection, or everything, in this process; `more` as for `pipeline`."""
        session = self.session(variables, **more)
        keys = None if select is None else session.select(select)
        return session.run(keys, force=force, tags=tags)

    def latest(self, asset: str) -> Materialized | None:
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        if not records:
            return None
        event = records[0].asset_materialization
        assert event is not None
        assert event.tags is not None
        metadata: dict[str, Any] = {key: value.value for key, value in event.metadata.items()}
        version = event.tags["dagster/data_version"]
        path = self.folder / asset / metadata["sha256"] / metadata["file"]
        return Materialized(version, metadata, dict(event.tags), records[0].storage_id, path)

    def check(self, asset: str, name: str) -> dg.AssetCheckEvaluation:
        """The newest evaluation of a check."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        [execution] = self.instance.event_log_storage.get_asset_check_execution_history(
            key, limit=1
        )
        assert execution.event is not None
        assert execution.event.asset_check_evaluation is not None
        return execution.event.asset_check_evaluation

    def made(self, asset: str) -> Materialized:
        found = self.latest(asset)
        assert found is not None, f"{asset} was never materialized"
        return found

    def versions(self) -> dict[str, str]:
        """The newest data version of each asset that has one."""
        names = sorted(key.to_user_string() for key in self.pipeline().engine.assets)
        return {name: found.data_version for name in names if (found := self.latest(name))}

    def value(self, asset: str) -> Any:
        """The asset as its step's readers would get it."""
        return self.pipeline().definitions.load_asset_value(asset, instance=self.instance)

    def cli(
        self, *arguments: str, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `mnist-pipeline` in a process that is forked from one with all imports."""
        environment = os.environ | self.environment | (variables or {})
        folder = self.folder.parent / "commands" / uuid.uuid4().hex
        command = Processes(folder, environment).start(*arguments)
        status = command.status()
        return subprocess.CompletedProcess(list(arguments), status, command.out, command.err)

    def process(
        self, *arguments: str, variables: dict[str, str] | None = None, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run `mnist-pipeline` as a user does, from a foreign working directory.

        The last line on stderr is its peak private memory in kB.
        """
        return subprocess.run(
            [sys.executable, "-c", _MEASURED, *COMMAND, *arguments],
            env=os.environ | self.environment | (variables or {}) | {"PYTHONPATH": str(PROJECT)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def house_of(folder: Path) -> dict[str, str]:
    return {"MNIST_DATA_DIR": str(folder), "DAGSTER_HOME": str(folder / "dagster_home")}


@contextmanager
def open_house(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    environment = NEUTRAL | house_of(folder)
    monkeypatch.setenv("DAGSTER_HOME", "")  # restored at the end, whatever `prepare` sets
    prepare(folder / "dagster_home", PROJECT / "dagster.yaml")
    with dg.DagsterInstance.get() as instance:
        yield House(folder, instance, environment)


def once(
    factory: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], None]
) -> Path:
    """Let the first of the processes that run the tests make a folder; return its path."""
    base = factory.getbasetemp()
    folder = (base if worker == "master" else base.parent) / name
    with FileLock(folder.with_suffix(".lock")):
        if not (made := folder.with_suffix(".made")).exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def _new_house(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Nothing but the tables of a new history: to make them takes longer than most tests."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch, open_house(folder, patch) as opened:
            opened.latest("raw_mnist")
            opened.instance.all_instigator_state()

    return once(tmp_path_factory, worker_id, "new", make)


@pytest.fixture
def house(_new_house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house in which nothing was made yet."""
    shutil.copytree(_new_house, tmp_path / "data")
    with open_house(tmp_path / "data", monkeypatch) as opened:
        yield opened


def _furnish(folder: Path) -> None:
    with folder.with_suffix(".out").open("wb") as out, folder.with_suffix(".err").open("wb") as err:
        subprocess.run(
            [sys.executable, "-m", "mnist_pipeline.cli", "run", "--json"],
            env=os.environ | NEUTRAL | house_of(folder),
            stdout=out,
            stderr=err,
            check=True,
            timeout=240,
        )


@pytest.fixture(scope="session")
def _furnished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return once(tmp_path_factory, worker_id, "furnished", _furnish)


@pytest.fixture
def first_run(_furnished: Path) -> tuple[str, str]:
    """What the run of `furnished` printed on stdout and stderr."""
    return _furnished.with_suffix(".out").read_text(), _furnished.with_suffix(".err").read_text()


@pytest.fixture(scope="session")
def full_size(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, genuine_openml: OpenML
) -> Path:
    """The data folder of a run from a loopback OpenML's 70,000 digits; its peak in `peak_kb`."""

    def make(folder: Path) -> None:
        with serve(genuine_openml) as server:
            completed = subprocess.run(
                [sys.executable, "-c", _MEASURED, *COMMAND, "run", "--json"],
                env=os.environ
                | NEUTRAL
                | house_of(folder)
                | {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": server.url},
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        (folder / "peak_kb").write_text(completed.stderr.splitlines()[-1])

    return once(tmp_path_factory, worker_id, "full_size", make)


@pytest.fixture
def furnished(_furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house in which everything was made once from the sample, by the command line."""
    shutil.copytree(_furnished, tmp_path / "data")
    with open_house(tmp_path / "data", monkeypatch) as opened:
        yield opened


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A copy of the project in which nothing was made yet."""
    return Clone.make(tmp_path / "clone")


@pytest.fixture
def furnished_clone(clone: Clone, _furnished: Path) -> Clone:
    """A copy of the project in which everything was made once from the sample."""
    shutil.copytree(_furnished, clone.data, dirs_exist_ok=True)
    return clone


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    """A folder in which nothing was made yet, of the project's own code."""
    return Forked.make(tmp_path / "forked")


@pytest.fixture
def furnished_forked(forked: Forked, _furnished: Path) -> Forked:
    """A folder in which everything was made once from the sample, by the project's own code."""
    shutil.copytree(_furnished, forked.data, dirs_exist_ok=True)
    return forked


@pytest.fixture
def params(tmp_path: Path) -> Callable[[str], str]:
    """Write a params file and return its path."""

    def write(text: str) -> str:
        file = tmp_path / "params.toml"
        file.write_text(text)
        return str(file)

    return write
