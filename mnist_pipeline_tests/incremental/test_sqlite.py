"""The files of Dagster's history are kept open while a run writes to them, and no others."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from mnist_pipeline.incremental import _dagster, files, sqlite
from mnist_pipeline.incremental.errors import HistoryError
from mnist_pipeline_tests.incremental.conftest import Toy, key

FULL, NORMAL = 2, 1


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home, empty but for the folder of the history."""
    (tmp_path / "home" / "history").mkdir(parents=True)
    return tmp_path / "home"


@contextlib.contextmanager
def opened(file: Path) -> Iterator[sa.Engine]:
    """A database, opened for each statement as Dagster opens its own."""
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def ask(engine: sa.Engine, statement: str) -> object:
    with engine.begin() as connection:
        found = connection.execute(sa.text(statement))
        return found.scalar() if found.returns_rows else None


def opened_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    links = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [str(one.readlink()) for one in links if one.readlink().is_relative_to(folder)]


def python(program: str, *arguments: object) -> str:
    """Run a program in a new interpreter and return what it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("linked", [False, True])
def test_a_commit_does_not_wait_for_the_disk_while_the_home_is_kept_open_but_before_and_after(
    home: Path, linked: bool
) -> None:
    kept = home
    if linked:
        kept = home.with_name("link")
        kept.symlink_to(home)
    with opened(home / "history" / "one.db") as database:
        assert ask(database, "PRAGMA synchronous") == FULL
        with sqlite.kept_open(kept):
            assert ask(database, "PRAGMA synchronous") == NORMAL
        assert ask(database, "PRAGMA synchronous") == FULL


def test_what_was_committed_is_in_the_file_and_nothing_is_open_when_the_outermost_use_ends(
    home: Path,
) -> None:
    log = home / "history" / "one.db-wal"
    with opened(home / "history" / "one.db") as database:
        with sqlite.kept_open(home):
            with sqlite.kept_open(home):
                ask(database, "CREATE TABLE t AS SELECT 1 AS x")
            assert log.stat().st_size > 0
        assert not log.exists()
        assert opened_below(home) == []
        assert ask(database, "SELECT x FROM t") == 1


def test_what_was_committed_is_on_the_disk_at_the_end_though_another_process_reads(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "history" / "one.db"
    synced: list[Path] = []
    sync = files.sync

    def recorded(path: Path) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr(files, "sync", recorded)
    with opened(file) as database, contextlib.closing(sqlite3.connect(file)) as reader:
        with sqlite.kept_open(home):
            ask(database, "CREATE TABLE t AS SELECT 1 AS x")
            reader.execute("BEGIN")
            reader.execute("SELECT x FROM t").fetchall()
            ask(database, "INSERT INTO t VALUES (2)")
        assert synced == [Path(f"{file}-wal"), file.parent]


def test_a_disk_that_the_history_cannot_be_written_to_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with opened(home / "history" / "one.db") as database:
        kept = sqlite.kept_open(home)
        kept.__enter__()
        ask(database, "CREATE TABLE t AS SELECT 1 AS x")
        monkeypatch.setattr(files, "sync", refuse)
        with pytest.raises(HistoryError, match=r"the disk: Input/output error \(.*one\.db\)"):
            kept.__exit__(None, None, None)
    assert opened_below(home) == []


def test_databases_that_are_not_dagsters_are_left_as_they_are(home: Path) -> None:
    (home / "mine").mkdir()
    with (
        opened(home / "mine" / "own.db") as own,
        opened(home.parent / "history.db") as elsewhere,
        sqlite.kept_open(home),
    ):
        for engine in own, elsewhere, sa.create_engine("sqlite://"):
            assert ask(engine, "PRAGMA synchronous") == FULL
            assert ask(engine, "PRAGMA journal_mode") in {"delete", "memory"}
        assert opened_below(home.parent) == []


def test_a_home_whose_path_is_not_utf_8_is_kept_open_too(tmp_path: Path) -> None:
    home = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    (home / "history").mkdir(parents=True)
    creator = lambda: sqlite3.connect(bytes(home / "history" / "one.db"))  # noqa: E731
    database = sa.create_engine("sqlite://", creator=creator, poolclass=sa.NullPool)
    with sqlite.kept_open(home):
        assert ask(database, "PRAGMA synchronous") == NORMAL


def test_runs_keep_few_files_open_and_leave_whole_databases(new_toy: Toy) -> None:
    home = new_toy.folder / "home"
    count = []
    with new_toy.session() as session, sqlite.kept_open(home):
        for _ in range(3):
            for _ in range(8):
                session.run([key("source")])
            count.append(len(opened_below(home)))
    assert 0 < count[1] == count[2]
    assert not list(home.rglob("*.db-wal"))
    assert opened_below(home) == []


def test_of_a_deleted_run_no_file_is_left_though_it_is_kept_open(new_toy: Toy) -> None:
    home = new_toy.folder / "home"
    with new_toy.session() as session, sqlite.kept_open(home):
        run = session.run([key("source")])
        assert list((home / "history" / "runs").glob(f"{run.run_id}*"))
        _dagster.forget_run(session.instance, run.run_id or "")
        assert not list((home / "history" / "runs").glob(f"{run.run_id}*"))
        assert dg.AssetKey("source") in session.instance.get_asset_keys()


def test_threads_may_connect_while_others_begin_and_end_to_keep_the_home_open(home: Path) -> None:
    over = threading.Event()

    def connect(database: sa.Engine) -> None:
        while not over.is_set():
            ask(database, "SELECT x FROM t")

    with opened(home / "history" / "one.db") as database, ThreadPoolExecutor(3) as threads:
        ask(database, "CREATE TABLE t AS SELECT 1 AS x")
        connecting = [threads.submit(connect, database) for _ in range(3)]
        for _ in range(100):
            with sqlite.kept_open(home):
                pass
        over.set()
    assert [one.exception() for one in connecting] == [None] * 3
    assert opened_below(home) == []


COMMITS = """
import os, sys
from pathlib import Path
import sqlalchemy as sa
from mnist_pipeline.incremental import sqlite

home = Path(sys.argv[1])
engine = sa.create_engine(f"sqlite:///{home}/history/one.db", poolclass=sa.NullPool)

def commit(count):
    for number in range(count):
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS t (x)"))
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))

"""


def test_a_process_that_ends_leaves_whole_databases(home: Path) -> None:
    python(f"{COMMITS}sqlite.keep_open_until_exit(home)\ncommit(3)", home)
    assert [one.name for one in (home / "history").iterdir()] == ["one.db"]
    with opened(home / "history" / "one.db") as database:
        assert ask(database, "SELECT count(*) FROM t") == 3


BESIDE = """
import sqlite3, sys, time
database = sqlite3.connect(f"{sys.argv[1]}/history/one.db", isolation_level=None)
open(f"{sys.argv[1]}/begun", "w").close()
for _ in range(50):
    database.execute("INSERT INTO t VALUES (1)")
    time.sleep(0.01)
"""


def test_no_commit_of_a_forked_process_or_of_one_beside_it_is_lost(home: Path) -> None:
    program = f"""{COMMITS}
import subprocess, time
with sqlite.kept_open(home):
    commit(1)
    child = os.fork()
    if not child:
        while not (home / "begun").exists():
            pass
        for _ in range(50):
            commit(1)
            time.sleep(0.01)
        os._exit(0)
subprocess.run([sys.executable, "-c", sys.argv[2], home], check=True)
assert os.waitpid(child, 0)[1] == 0
"""
    python(program, home, BESIDE)
    with opened(home / "history" / "one.db") as database:
        assert ask(database, "SELECT count(*) FROM t") == 101
