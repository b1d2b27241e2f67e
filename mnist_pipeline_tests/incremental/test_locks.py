"""Locks of files and of a real PostgreSQL server: free when their holder is killed, not before."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_pipeline.incremental import postgres_locks
from mnist_pipeline.incremental.errors import HistoryError, StoreError
from mnist_pipeline.incremental.locks import FileLocks, Locks
from mnist_pipeline.incremental.postgres_locks import PostgresLocks
from mnist_pipeline_tests.support import servers
from mnist_pipeline_tests.support.servers import PASSWORD, Server
from mnist_pipeline_tests.support.webserver import until

HOST = "here"

# claims, holds a lock, prints its token, then waits
_OTHER = """
import sys
from pathlib import Path
from mnist_pipeline.incremental.postgres_locks import PostgresLocks
from mnist_pipeline.incremental.locks import FileLocks
where = sys.argv[1]
locks = PostgresLocks(where, "store") if ":" in where else FileLocks(Path(where))
token = locks.claim()
with locks.hold("refresh", lambda: print("waiting", flush=True)):
    print(token, flush=True)
    input()
"""


@pytest.fixture(scope="module")
def history() -> Iterator[Server]:
    if why := servers.missing():
        pytest.skip(why)
    with servers.postgres() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_locks, "_RESTART_SECONDS", 0.0)
    monkeypatch.setattr(postgres_locks, "_AGAIN_SECONDS", 1.0)


@pytest.fixture(params=["files", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What the locks are of: a folder, or the URL of a server."""
    if request.param == "files":
        return str(tmp_path)
    server: Server = request.getfixturevalue("history")
    return server.url


def locks_of(where: str, store: str = "store") -> Locks:
    return PostgresLocks(where, store) if ":" in where else FileLocks(Path(where))


@contextlib.contextmanager
def other(where: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """Another process with these locks; what it prints, line by line."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    out = process.stdout
    try:
        yield process, lambda: out.readline().strip()
    finally:
        process.kill()
        process.communicate()


def is_held(locks: Locks, name: str) -> bool:
    """Whether some process holds a lock."""

    class WaitedError(Exception):
        pass

    def waiting() -> None:
        raise WaitedError

    try:
        with locks.hold(name, waiting):
            return False
    except WaitedError:
        return True


def end_sessions(server: Server) -> int:
    """End every session that holds a lock, as an administrator can; return how many there were."""
    import psycopg2

    plain = server.url.replace("+psycopg2", "")
    with contextlib.closing(psycopg2.connect(plain)) as admin, admin.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'incremental locks'"
        )
        return int(cursor.fetchone()[0])


def test_a_token_is_of_a_living_process_until_that_is_killed(where: str) -> None:
    locks = locks_of(where)
    assert locks.lives(locks.claim(), HOST) is True
    assert locks.claim() == locks.claim()
    with other(where) as (process, said):
        token = said()
        assert locks.lives(token, HOST) is True
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert locks.lives(token, HOST) is False


def test_whether_a_token_of_another_kind_lives_is_not_known(
    history: Server, tmp_path: Path
) -> None:
    files, sessions = FileLocks(tmp_path), PostgresLocks(history.url, "store")
    assert files.lives(sessions.claim(), HOST) is None
    assert sessions.lives(files.claim(), HOST) is None


def test_a_lock_has_one_holder_at_a_time_and_is_free_when_that_is_killed(where: str) -> None:
    mine = locks_of(where)
    assert not is_held(mine, "refresh")
    with other(where) as (process, said):
        said()
        assert is_held(mine, "refresh")
        waited: list[float] = []
        # the holder dies a moment after the wait began
        killer = threading.Timer(1.0, process.kill)

        def waiting() -> None:
            waited.append(time.monotonic())
            killer.start()

        with mine.hold("refresh", waiting) as confirm:
            confirm()
            assert time.monotonic() - waited[0] > 0.9
            with other(where) as (_, third):
                assert third() == "waiting"
    assert not is_held(mine, "refresh")


def test_two_stores_with_one_history_do_not_wait_for_each_other(history: Server) -> None:
    one, another = (PostgresLocks(history.url, name) for name in ("s3://one", "s3://another"))
    with one.hold("refresh", pytest.fail), another.hold("refresh", pytest.fail):
        assert is_held(one, "refresh")
        assert is_held(one, "refresh") == is_held(another, "refresh")


def test_a_process_whose_connection_broke_claims_its_token_again(history: Server) -> None:
    locks = PostgresLocks(history.url, "store")
    with other(history.url) as (_, said):
        token = said()
        for _ in range(3):
            assert end_sessions(history) >= 1
            assert locks.lives(token, HOST) is True
        history.stop()
        history.start()
        until(lambda: locks.lives(token, HOST), seconds=10, pause=0.1)


def test_after_a_restart_no_process_is_taken_for_dead_before_it_could_come_back(
    history: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "_RESTART_SECONDS", 3600.0)
    locks = PostgresLocks(history.url, "store")
    assert locks.lives("postgres:of no process", HOST) is None
    monkeypatch.setattr(postgres_locks, "_RESTART_SECONDS", 0.0)
    assert locks.lives("postgres:of no process", HOST) is False


def test_a_lock_whose_connection_broke_is_taken_anew_or_known_to_be_lost(
    history: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "_PATIENCE_SECONDS", 1.0)
    locks = PostgresLocks(history.url, "store")
    with locks.hold("refresh", pytest.fail) as confirm:
        end_sessions(history)
        confirm()
        assert is_held(locks, "refresh")
        end_sessions(history)
        with other(history.url) as (_, said):
            assert said() != "waiting", "it was free"
            with pytest.raises(HistoryError, match="the lock 'refresh', which another process may"):
                confirm()


def test_a_server_that_is_gone_is_one_message_without_a_password(history: Server) -> None:
    # no process has claimed anything with this URL
    locks = PostgresLocks(f"{history.url}?application_name=another", "store")
    history.stop()
    try:
        for ask in (locks.claim, lambda: is_held(locks, "refresh")):
            with pytest.raises(HistoryError, match=f"127.0.0.1.*{history.port}") as raised:
                ask()
            assert PASSWORD not in str(raised.value)
            assert "\n" not in str(raised.value)
    finally:
        history.start()


def test_a_process_that_waits_for_a_lock_ends_with_one_message_when_the_server_is_gone(
    history: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_locks, "_PATIENCE_SECONDS", 1.0)
    locks = PostgresLocks(history.url, "store")
    with other(history.url) as (_, said):
        said()
        try:
            with (
                pytest.raises(HistoryError, match="does not answer"),
                locks.hold("refresh", history.stop),
            ):
                pytest.fail("the lock was taken")
        finally:
            history.start()


# forks, and prints what each process finds
_FORKS = """
import os, sys
from pathlib import Path
from mnist_pipeline.incremental.locks import FileLocks
locks = FileLocks(Path(sys.argv[1]))
token = locks.claim()
child = os.fork()
if child == 0:
    own = locks.claim()
    print(own != token, own == locks.claim(), locks.lives(own, "here"), flush=True)
    print(own, flush=True)
    sys.exit()
os.waitpid(child, 0)
print(token == locks.claim(), locks.lives(token, "here"), flush=True)
print(token, flush=True)
input()
"""


def test_a_forked_childs_claim_is_its_own_and_its_end_is_not_its_parents(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", _FORKS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True True True\n"
    child = process.stdout.readline().strip()
    assert process.stdout.readline() == "True True\n"
    parent = process.stdout.readline().strip()
    assert locks.lives(child, os.uname().nodename) is False
    assert locks.lives(parent, os.uname().nodename) is True
    process.kill()
    process.communicate()
    assert locks.lives(parent, os.uname().nodename) is False


def test_files_of_processes_killed_long_ago_are_removed_by_the_next_claim(tmp_path: Path) -> None:
    with other(str(tmp_path)) as (process, said):
        token = Path(said())
        assert token.exists()
        process.kill()
        process.wait()
    os.utime(token, (0, 0))
    with other(str(tmp_path)) as (_, said):
        said()
        assert not token.exists()


def test_a_folder_of_locks_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for ask in (FileLocks(file).claim, lambda: is_held(FileLocks(file), "refresh")):
        with pytest.raises(StoreError, match=f"the lock {file}/.* cannot be used: "):
            ask()
