"""The Dagster UI in this process, with a daemon, of which a home has one at a time.

The module is the daemon's program, too: `dagster-daemon`, but ended when its parent has ended.
"""

import contextlib
import fcntl
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import _dagster
from .errors import SettingsError

if TYPE_CHECKING:
    from .session import Session

_END_SECONDS = 30


@contextlib.contextmanager
def only_one(session: "Session") -> Iterator[TextIO]:
    """Hold the lock of the UI of the session's home: a file that names the process.

    Raises SettingsError where another UI, or another daemon, is alive. The lock is released when
    all processes that have the file open are dead: this one and its daemon.
    """
    home, instance = session.pipeline.home, session.instance
    with (home / ".ui").open("a+", encoding="utf-8") as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"the UI of {home} runs already: {file.read()}. Use it, or end that process first"
            ) from None
        if owner := file.read():
            session.report(f"the last UI ({owner}) was killed; its daemon ended with it")
            _dagster.forget_daemons(instance)
        elif _dagster.daemon_is_alive(instance):
            raise SettingsError(
                f"another daemon of {home} was alive within the last minute (`dagster dev`?): end "
                "it, then try again a minute later"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        try:
            yield file
        finally:
            _dagster.forget_daemons(instance)
            file.truncate(0)


@contextlib.contextmanager
def started(
    session: "Session", workspace: Path, lock: TextIO
) -> Iterator[tuple[Any, "subprocess.Popen[bytes]"]]:
    """Start a daemon; yield the ASGI application of the webserver, and the daemon's process."""
    command = [sys.executable, "-m", __name__, "run", "--workspace"]
    with (
        _dagster.webserver(session.instance, workspace) as (app, loaded),
        subprocess.Popen(
            [*command, str(loaded)], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
        ) as daemon,
    ):
        try:
            yield app, daemon
        finally:
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(_END_SECONDS)


def _end_with_the_parent() -> None:
    os.read(0, 1)  # ends when no process has the other end of the pipe
    os._exit(1)


if __name__ == "__main__":
    _dagster.colour_logs_on_terminals_only(sys.stdout)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    runpy.run_module("dagster._daemon", run_name="__main__")
