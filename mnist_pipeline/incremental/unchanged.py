"""A quick answer where nothing changed since a complete check: without Dagster, in milliseconds.

The answer of a command is kept with the state of all that it depends on. It is given again only if
that state, read anew, is the same; in every other case the command does its work. The state is made
of the environment, the source of the package, the installed distributions, the files that are named
(params, settings), Dagster's history, and the sizes of the artifacts.

Only SQLite is read: where the history or the store is on a server, nothing is kept.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

_OTHER = {"_", "SHLVL", "PWD", "OLDPWD"}
"""Environment variables that differ from one command to the next, and change no answer."""

_HISTORY = {
    "history/runs/index.db": (
        "SELECT id, run_id, timestamp FROM event_logs ORDER BY id DESC LIMIT 1",
        "SELECT * FROM asset_keys",
        "SELECT max(id), count(*), max(evaluation_event_storage_id) FROM asset_check_executions",
    ),
    "history/runs.db": ("SELECT run_id, status, update_timestamp FROM runs",),
}
"""Dagster's databases in its home, and what in them changes with every event and every run."""

_INSTALLED = {".dist-info", ".egg-info"}

_FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


def surroundings(package: Path) -> str:
    """Digest the environment, all files of a package and the names of the distributions."""
    digest = hashlib.sha256(repr((sys.version, sys.prefix, sys.path)).encode())
    with contextlib.suppress(FileNotFoundError):  # the working directory was removed
        digest.update(str(Path.cwd()).encode())
    variables = {name: value for name, value in os.environ.items() if name not in _OTHER}
    digest.update(json.dumps(variables, sort_keys=True).encode())
    for folder in sys.path:
        with contextlib.suppress(OSError):
            installed = [one.name for one in Path(folder).iterdir() if one.suffix in _INSTALLED]
            digest.update(repr(sorted(installed)).encode())
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = f"{folder}/{name}"
            digest.update(f"{path} {_digest(path)}\n".encode())
    return digest.hexdigest()


class QuickAnswers:
    """The kept answers to a command, in one file beside the compiled modules of a package.

    Made when the process begins. `command` is all that the answer to it depends on besides the
    state: its arguments and where it is printed.
    """

    def __init__(self, package: Path, command: str) -> None:
        self._surroundings = surroundings(package)
        self._before: dict[str, Any] = {}
        self._command = command
        self._file = package / "__pycache__" / "unchanged.json"

    def find(self) -> Any:
        """Return the kept answer if nothing changed since, or None."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file.read_bytes())
            before, artifacts = kept["state"], kept["artifacts"]
            if before["surroundings"] != self._surroundings:
                return None
            same = before == self._state(before["files"], before["home"])
            if same and artifacts == _places(artifacts):
                return kept["answers"].get(self._command)
        return None

    def begin(self, files: Iterable[str], home: str) -> None:
        """Read the state before the command looks at anything."""
        self._before = self._state(files, home)

    def keep(self, answer: object, sizes: Mapping[str, int]) -> None:
        """Keep an answer, if the state is still the one before it began.

        `sizes` are those that the artifacts must have, by path.
        """
        before = self._before
        if not before.get("history") or before != self._state(before["files"], before["home"]):
            return
        artifacts = {path: [size, os.path.realpath(path)] for path, size in sizes.items()}
        content: dict[str, Any] = {"state": before, "artifacts": artifacts, "answers": {}}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file.read_bytes())
            if {**kept, "answers": {}} == content:
                content["answers"] = kept["answers"]
        content["answers"][self._command] = answer
        from . import files  # takes as long as a quick answer

        with contextlib.suppress(OSError):  # in a folder that cannot be written nothing is kept
            self._file.parent.mkdir(exist_ok=True)
            files.replace(self._file, json.dumps(content).encode())

    def _state(self, files: Iterable[str], home: str) -> dict[str, Any]:
        """Return what answers depend on: the surroundings as they were, all else as it is now."""
        digests = {path: _digest(path) for path in files}
        return {
            "surroundings": self._surroundings,
            "files": digests,
            "home": home,
            "history": _history(home),
        }


def _digest(path: str) -> str | None:
    file = Path(path)
    try:
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()
        # reading a pipe or a device may never end; the commands refuse both
        return "not a file" if file.exists() else None
    except OSError:
        return None


def _places(paths: Iterable[str]) -> dict[str, list[Any]]:
    """Return the size of each file and where it is: a link in its place, or above it, differs."""
    return {path: [Path(path).stat().st_size, os.path.realpath(path)] for path in paths}


def _history(home: str) -> str | None:
    """Digest Dagster's history; None where it is unfinished or cannot be read."""
    rows = {}
    try:
        for name, queries in _HISTORY.items():
            with contextlib.closing(
                sqlite3.connect(f"file:{quote(home)}/{name}?mode=ro", uri=True)
            ) as database:
                rows[name] = [database.execute(query).fetchall() for query in queries]
    except sqlite3.Error:
        return None
    runs = rows["history/runs.db"][0]
    if any(status not in _FINISHED for _, status, _ in runs):
        return None
    return hashlib.sha256(repr(rows).encode()).hexdigest()
