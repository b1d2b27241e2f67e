"""Processes of the command line, forked from one that has imported everything: real to kill.

They start in a tenth of the time of a new interpreter, so that a test can have hundreds of them.
"""

import json
import multiprocessing
import os
import runpy
import signal
import sys
import uuid
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "mnist_pipeline_tests.support.preload"])

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Moment = tuple[str, int]


@dataclass
class Command:
    """`mnist-pipeline` with some arguments, at work in a process of its own."""

    process: ForkServerProcess
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it has printed so far."""
        file = self.folder / "err"
        return file.read_text() if file.exists() else ""

    def status(self) -> int:
        """Wait for its end and return its exit status; of a killed one, minus the signal."""
        self.process.join(240)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.err)
        return self.process.exitcode

    def document(self) -> Any:
        """Wait for its end and return what it wrote with --json."""
        self.status()
        return json.loads(self.out)


@dataclass
class Processes:
    """Starts commands with an environment; what they print goes to folders of their own.

    With `source`, the folder of a copy of the project, they run the copy's code.
    """

    folder: Path
    environment: dict[str, str]
    source: Path | None = None
    started: int = 0

    def start(
        self, *arguments: str, kill_at: Moment | None = None, moments: Path | None = None
    ) -> Command:
        """Start `mnist-pipeline` with these arguments.

        Parameters
        ----------
        kill_at : tuple, optional
            It is killed just before the so-manyth change of this kind: `("store", 3)`.
        moments : Path, optional
            Where to write how many there were of each kind, as JSON, at its end.
        """
        self.started += 1
        folder = self.folder / f"{self.started:04}"
        folder.mkdir(parents=True)
        process = _context.Process(
            target=_run,
            args=(list(arguments), self.environment, folder, self.source, kill_at, moments),
        )
        process.start()
        return Command(process, folder)

    def run(self, *arguments: str) -> Command:
        """Run a command to its end, which must be a good one."""
        command = self.start(*arguments)
        assert command.status() == 0, f"{arguments}: {command.out}{command.err}"
        return command


def run_script(file: Path, *arguments: str) -> Command:
    """Run a Python file to its end in its folder, as `python FILE ARGUMENTS` does."""
    folder = file.parent / ".commands" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    process = _context.Process(target=_run_file, args=(file, arguments, dict(os.environ), folder))
    process.start()
    command = Command(process, folder)
    assert command.status() == 0, command.out + command.err
    return command


def _run_file(
    file: Path, arguments: tuple[str, ...], environment: dict[str, str], folder: Path
) -> None:
    _enter(environment, folder)
    os.chdir(file.parent)
    sys.argv = [file.name, *arguments]
    sys.path.insert(0, str(file.parent))
    # an edit within the same second is an edit
    sys.dont_write_bytecode = True
    try:
        runpy.run_path(str(file), run_name="__main__")
    finally:
        sys.stdout.flush()


def _enter(environment: dict[str, str], folder: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)


def _run(
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    source: Path | None,
    kill_at: Moment | None,
    moments: Path | None,
) -> None:
    _enter(environment, folder)
    if source:
        _import_from(source)
    from mnist_pipeline.cli import __main__ as command

    counted = _count_changes(kill_at) if kill_at or moments else {}
    sys.argv = ["mnist-pipeline", *arguments]
    try:
        command.main()
    finally:
        sys.stdout.flush()
        if moments:
            moments.write_text(json.dumps(counted))


def _import_from(source: Path) -> None:
    """Import this project anew, from a copy of it; other packages stay imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mnist_pipeline"]:
        del sys.modules[name]
    sys.path.insert(0, str(source))
    # an edit within the same second is an edit
    sys.dont_write_bytecode = True


def _count_changes(kill_at: Moment | None) -> dict[str, int]:
    """Count changes of the store and statements to databases; kill this process before one."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    counted = {"store": 0, "history": 0}
    data = os.environ["MNIST_DATA_DIR"]

    def one(kind: str) -> None:
        counted[kind] += 1
        if (kind, counted[kind]) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def of_store(path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return text.startswith(data) and "dagster_home" not in text

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        opened = name == "open" and (arguments[2] or 0) & _WRITING
        if (opened or name in _CHANGES) and of_store(arguments[0]):
            one("store")

    fsync = os.fsync

    def counted_fsync(descriptor: Any) -> None:
        if of_store(Path(f"/proc/self/fd/{descriptor}").readlink()):
            one("store")
        fsync(descriptor)

    os.fsync = counted_fsync  # type: ignore[assignment]
    sys.addaudithook(audit)
    event.listen(Engine, "before_cursor_execute", lambda *_: one("history"))
    event.listen(Engine, "commit", lambda *_: one("history"))
    return counted
