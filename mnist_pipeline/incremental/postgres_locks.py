"""Locks of a PostgreSQL server: they do what `locks` says, for processes on many machines.

They know tokens of processes and names, neither runs nor what is done under a lock.
"""

import contextlib
import hashlib
import os
import select
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from .errors import HistoryError
from .locks import Confirm

_TOKEN = "postgres:"
_POLL_SECONDS = 0.5
_PING_SECONDS = 5.0
_AGAIN_SECONDS = 3.0
_RESTART_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0

# both ends give up a connection 45 s after the other machine vanished
_KEEPALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 6}
_USER_TIMEOUT_MS = 45_000
_ANSWER_MS = 10_000
_KNOWS_IDLE_SESSIONS = 14_00_00


class PostgresLocks:
    """Session-level advisory locks of a server, seen by every machine that can reach it.

    The server frees them when the holder's connection ends, at the latest 45 s after his machine
    vanished. Every method raises HistoryError where the server cannot be reached.

    Parameters
    ----------
    url : str
        Of the database, as SQLAlchemy takes it.
    namespace : str
        Names are of this; the same on all machines.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace

    def claim(self) -> str:
        """Hold a random lock in a session of this process's own; its name is the token."""
        with _living:
            # what forked this process has a session that is not its own
            if (at := (self._url, os.getpid())) not in _lives:
                _lives[at] = _Life(self._url)
        return _lives[at].token

    def lives(self, token: str, host: str) -> bool | None:
        """Whether a session holds the lock, or could come back for it."""
        if not token.startswith(_TOKEN):
            return None
        with contextlib.closing(_session(self._url)) as session:
            if _is_locked(session, _key(token)):
                return True
            # of a connection that broke, the holder comes back at once
            time.sleep(_AGAIN_SECONDS)
            if _is_locked(session, _key(token)):
                return True
            up = _ask(session, "SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
            return None if float(up) < _RESTART_SECONDS else False

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None]) -> Iterator[Confirm]:
        """Hold a lock in a session; where that broke, `confirm` takes it anew or raises."""
        key = _key(f"{self._namespace} {name}")
        session = _session(self._url)

        def confirm() -> None:
            nonlocal session
            with contextlib.suppress(HistoryError):
                # a session that answers has all its locks
                _ask(session, "SELECT 1")
                return
            session.close()
            end = time.monotonic() + _PATIENCE_SECONDS
            while True:
                with contextlib.suppress(HistoryError):
                    session = _session(self._url)
                    if _try(session, key):
                        return
                    session.close()
                if time.monotonic() > end:
                    raise HistoryError(
                        f"the connection to PostgreSQL broke, and with it the lock {name!r}, which "
                        "another process may hold by now: start again, what was finished stays"
                    )
                time.sleep(_POLL_SECONDS)

        try:
            if not _try(session, key):
                waiting()
                session = _awaited(self._url, session, key)
            yield confirm
        finally:
            session.close()


class _Life:
    """The session that holds the token of this process, and the thread that watches over it."""

    def __init__(self, url: str) -> None:
        self.token = f"{_TOKEN}{uuid.uuid4().hex}"
        self._url = url
        self._session = _session(url)
        _try(self._session, _key(self.token))
        threading.Thread(target=self._watch, name="life", daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                # readable without a question: the server ended it
                select.select([self._session], [], [], _PING_SECONDS)
                _ask(self._session, "SELECT 1")
            except (HistoryError, OSError, ValueError):
                self._session.close()
                self._come_back()

    def _come_back(self) -> None:
        while True:
            with contextlib.suppress(HistoryError):
                self._session = _session(self._url)
                # a server that has not noticed yet holds it for the session that broke
                if _try(self._session, _key(self.token)):
                    return
                self._session.close()
            time.sleep(_POLL_SECONDS)


_lives: dict[tuple[str, int], _Life] = {}
_living = threading.Lock()


def _key(name: str) -> int:
    """Return the 64 bits that stand for a name on the server."""
    digest = hashlib.sha256(f"incremental {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _session(url: str) -> Any:
    import psycopg2
    from sqlalchemy import make_url

    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        session = psycopg2.connect(
            plain,
            application_name="incremental locks",
            connect_timeout=10,
            tcp_user_timeout=_USER_TIMEOUT_MS,
            **_KEEPALIVE,
        )
    except psycopg2.Error as error:
        raise _unreachable(error) from None
    session.autocommit = True
    limits = {
        **{f"tcp_{name}": value for name, value in _KEEPALIVE.items()},
        "tcp_user_timeout": _USER_TIMEOUT_MS,
        "statement_timeout": _ANSWER_MS,
    }
    if session.server_version >= _KNOWS_IDLE_SESSIONS:
        # an administrator may have set one, and idle is what these are
        limits["idle_session_timeout"] = 0
    for name, value in limits.items():
        _ask(session, f"SELECT set_config('{name}', '{value}', false)")
    return session


def _awaited(url: str, session: Any, key: int) -> Any:
    """Return a session that holds the lock, another one where this one broke meanwhile."""
    end = None
    while True:
        try:
            if _try(session, key):
                return session
            end = None
        except HistoryError:
            end = end or time.monotonic() + _PATIENCE_SECONDS
            if time.monotonic() > end:
                raise
            session.close()
            with contextlib.suppress(HistoryError):
                session = _session(url)
        time.sleep(_POLL_SECONDS)


def _ask(session: Any, question: str, *values: object) -> Any:
    """Return the first value of the answer."""
    import psycopg2

    try:
        with session.cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchone()[0]
    except psycopg2.Error as error:
        raise _unreachable(error) from None


def _unreachable(error: Exception) -> HistoryError:
    why = " ".join(str(error).split())
    return HistoryError(
        f"PostgreSQL, which keeps Dagster's history and the locks, does not answer: {why}. "
        "Start it, or fix the way there; what was published is still there."
    )


def _try(session: Any, key: int) -> bool:
    return bool(_ask(session, "SELECT pg_try_advisory_lock(%s)", key))


def _is_locked(session: Any, key: int) -> bool:
    return bool(
        _ask(
            session,
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32) | objid::bigint = %s",
            key,
        )
    )
