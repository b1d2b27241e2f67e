"""Locks of a PostgreSQL server, for processes on many machines."""

import contextlib
import hashlib
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from .errors import HistoryError
from .locks import Confirm

_TOKEN = "postgres:"
_POLL_SECONDS = 0.5
_AGAIN_SECONDS = 3.0
_RESTART_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0

# both ends give up a connection 45 s after the other machine vanished
_KEEPALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 6}
_USER_TIMEOUT_MS = 45_000
_OF_SERVER = {
    **{f"tcp_{name}": value for name, value in _KEEPALIVE.items()},
    "tcp_user_timeout": _USER_TIMEOUT_MS,
    "statement_timeout": 10_000,
    "idle_session_timeout": 0,
}


class PostgresLocks:
    """Session-level advisory locks of a server, seen by every machine that can reach it.

    The server frees them when the holder's connection ends, at the latest 45 s after its machine
    vanished. Every method raises HistoryError where the server cannot be reached. The URL is as
    SQLAlchemy takes it; the namespace, a prefix of the names, is the same on all machines.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace

    def claim(self) -> str:
        """Hold a lock with a random name, the token, until this process ends."""
        # a forked process does not hold what its parent holds
        return _claimed(self._url, os.getpid())

    def lives(self, token: str, host: str) -> bool | None:
        """Whether a session holds the lock; None where one could come back, or of another kind."""
        if not token.startswith(_TOKEN):
            return None
        with contextlib.closing(_session(self._url)) as session:
            if _is_held(session, token):
                return True
            # the holder of a connection that broke takes the lock again at once
            time.sleep(_AGAIN_SECONDS)
            if _is_held(session, token):
                return True
            up = _ask(session, "SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
            return None if float(up) < _RESTART_SECONDS else False

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None]) -> Iterator[Confirm]:
        """Hold a lock; where its session broke, `confirm` takes it again or raises."""
        lock = _Lock(self._url, f"{self._namespace} {name}")

        def confirm() -> None:
            if not lock.answers() and not lock.take(_PATIENCE_SECONDS):
                raise HistoryError(
                    f"the connection to PostgreSQL broke, and with it the lock {name!r}, which "
                    "another process may hold by now: start again, what was finished stays"
                )

        try:
            if not lock.take(0):
                waiting()
                lock.take(math.inf)
            yield confirm
        finally:
            lock.release()


class _Lock:
    """One lock in a session of its own."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._session = _session(url)

    def answers(self) -> bool:
        """Whether the session is intact: then it has the lock that it took."""
        with contextlib.suppress(HistoryError):
            _ask(self._session, "SELECT 1")
            return True
        return False

    def take(self, seconds: float) -> bool:
        """Take the lock within so many seconds, in another session where this one broke.

        Raises HistoryError where the server does not answer for as long, or for a minute.
        """
        start = answered = time.monotonic()
        while True:
            try:
                if not self.answers():
                    self.release()
                    self._session = _session(self._url)
                if _ask(self._session, "SELECT pg_try_advisory_lock(%s)", _key(self._name)):
                    return True
                answered = time.monotonic()
            except HistoryError:
                if time.monotonic() - answered >= min(seconds, _PATIENCE_SECONDS):
                    raise
            if time.monotonic() - start >= seconds:
                return False
            time.sleep(_POLL_SECONDS)

    def keep(self) -> None:
        """Take the lock again whenever its session broke, for as long as the process lives."""
        while True:
            time.sleep(_POLL_SECONDS)
            with contextlib.suppress(HistoryError):
                if not self.answers():
                    self.take(math.inf)

    def release(self) -> None:
        self._session.close()


@cache
def _claimed(url: str, process: int) -> str:
    token = f"{_TOKEN}{uuid.uuid4().hex}"
    lock = _Lock(url, token)
    lock.take(math.inf)
    threading.Thread(target=lock.keep, name="owner lock", daemon=True).start()
    return token


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
            options=" ".join(f"-c {name}={value}" for name, value in _OF_SERVER.items()),
            **_KEEPALIVE,
        )
    except psycopg2.Error as error:
        raise _unreachable(error) from None
    session.autocommit = True
    return session


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


def _is_held(session: Any, name: str) -> bool:
    # free again at the end of this statement; those who ask do not stand in each other's way
    free = _ask(session, "SELECT pg_try_advisory_xact_lock_shared(%s)", _key(name))
    return not free
