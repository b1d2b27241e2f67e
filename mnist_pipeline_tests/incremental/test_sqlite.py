"""The history's files are kept open while a process works with them, and no others."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mnist_pipeline.incremental import sqlite
from mnist_pipeline_tests.incremental.conftest import Toy, key

FULL, NORMAL = 2, 1


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sa.Engine]:
    """A database, `home/one.db`, that is opened for each statement as Dagster opens its own."""
    (tmp_path / "home").mkdir()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/home/one.db", poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def pragma(engine: sa.Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.execute(sa.text(f"PRAGMA {name}")).scalar()


def opened_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    links = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [str(one.readlink()) for one in links if one.readlink().is_relative_to(folder)]


def test_a_commit_waits_for_no_disk_while_the_home_is_kept_open_and_does_so_before_and_after(
    database: sa.Engine, tmp_path: Path
) -> None:
    log = tmp_path / "home" / "one.db-wal"
    assert pragma(database, "synchronous") == FULL
    with sqlite.kept_open(tmp_path / "home"), sqlite.kept_open(tmp_path / "home"):
        assert pragma(database, "synchronous") == NORMAL
        with database.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t AS SELECT 1 AS x"))
        assert log.stat().st_size > 0, "copied into the file at the end alone"
        other = sqlite3.connect(tmp_path / "home" / "one.db")
        other.execute("PRAGMA schema_version").fetchall()
    assert b"CREATE TABLE t" in (tmp_path / "home" / "one.db").read_bytes(), "another has it open"
    other.close()
    assert not log.exists()
    assert opened_below(tmp_path) == []
    assert pragma(database, "synchronous") == FULL
    with database.connect() as connection:
        assert connection.execute(sa.text("SELECT x FROM t")).scalar() == 1


def test_databases_elsewhere_and_in_memory_are_left_as_they_are(
    database: sa.Engine, tmp_path: Path
) -> None:
    memory = sa.create_engine("sqlite://")
    with sqlite.kept_open(tmp_path / "another"):
        for engine in database, memory:
            assert pragma(engine, "synchronous") == FULL
            assert pragma(engine, "journal_mode") in {"delete", "memory"}
        assert opened_below(tmp_path) == []


def test_a_session_of_many_runs_has_few_files_open_and_leaves_whole_databases(new_toy: Toy) -> None:
    home = new_toy.folder / "home"
    count = []
    with new_toy.session() as session:
        for _ in range(3):
            for _ in range(8):
                session.run([key("source")])
            count.append(len(opened_below(home)))
    assert 0 < count[1] == count[2]
    assert not list(home.rglob("*.db-wal"))
    assert opened_below(home) == []


def test_a_process_that_is_killed_loses_no_commit(tmp_path: Path) -> None:
    program = f"""
import os, signal
import sqlalchemy as sa
from pathlib import Path
from mnist_pipeline.incremental import sqlite
sqlite.keep_open(Path({str(tmp_path)!r}))
engine = sa.create_engine("sqlite:///{tmp_path}/one.db", poolclass=sa.NullPool)
for number in range(3):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS t (x)"))
        connection.execute(sa.text(f"INSERT INTO t VALUES ({{number}})"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -9
    with sqlite3.connect(tmp_path / "one.db") as found:
        assert found.execute("SELECT x FROM t").fetchall() == [(0,), (1,), (2,)]
    found.close()
