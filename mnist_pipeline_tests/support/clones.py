"""Copies of the project, as a clone has it after `make install`, and their command line.

Commands are forked, which takes a fifth of the time of a new interpreter, but for `popen`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.processes import Command, Processes

ASSETS = {
    "raw_mnist",
    "train_set",
    "test_set",
    "sgd_model",
    "predictions",
    "evaluation",
    "champion_model",
    "report",
}
"""What `refresh` brings up to date."""

NEVER_REUSED = {"raw_mnist", "champion_model"}

FAST = 'preset = "fast"\n'
ENDLESS = 'preset = "tutorial"\ntol = 0.0\nalpha = 1e-9\nmax_iter = 1000000\n'
"""What to put into the params in place of `FAST` for a fit that never ends."""

FILES = ["mnist_pipeline", "workspace.yaml", "dagster.yaml", "params.toml", "pyproject.toml"]

VARIANTS = """
[variants.small]
cells = [4]
max_iter = 3
[variants.smooth]
cells = [4]
max_iter = 3
whitening = 0.1
[variants.poor]
preset = "scaled"
max_iter = 5
"""
"""Of a params file: three variants that are fitted quickly."""


@dataclass
class Clone:
    """A copy of the project in a folder of its own, with artifacts and history in its `data`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Clone":
        folder.mkdir()
        (folder / "data").mkdir()
        for name in FILES:
            source = PROJECT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        shutil.copy(PROJECT / "settings.env.example", folder / "settings.env")
        return cls(folder)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def _source(self) -> Path | None:
        return self.folder

    def environment(self, **variables: str) -> dict[str, str]:
        """No settings, and no path but the interpreter's; its packages come from the clone.

        What chooses the machine's arithmetic stays: a fit repeats bit by bit only on the same.
        """
        arithmetic = {name: os.environ[name] for name in os.environ if name.startswith("OPENBLAS_")}
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder.parent),
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            **arithmetic,
        } | variables

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text in a file of the clone; it must be there."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    def start(self, *arguments: str, **variables: str) -> Command:
        """Start `mnist-pipeline` of the clone and leave it at work."""
        commands = self.folder.parent / "commands" / uuid.uuid4().hex
        return Processes(commands, self.environment(**variables), self._source).start(*arguments)

    def cli(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `mnist-pipeline` of the clone to its end, from a foreign working directory."""
        command = self.start(*arguments, **variables)
        status = command.status()
        return subprocess.CompletedProcess(list(arguments), status, command.out, command.err)

    def json(self, *arguments: str, **variables: str) -> Any:
        """Run a command that must end well, and return its document."""
        completed = self.cli(*arguments, "--json", **variables)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return json.loads(completed.stdout)

    def status(self, *arguments: str) -> dict[str, Any]:
        """What `status` says of each asset."""
        completed = self.cli("status", "--json", *arguments)
        return {asset["key"]: asset for asset in json.loads(completed.stdout)["assets"]}

    def popen(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start `mnist-pipeline` of the clone in a new interpreter and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "mnist_pipeline.cli", *arguments],
            env=self.environment(**variables),
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # what runs the tests in the background may have it ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


class Forked(Clone):
    """A folder with params and data of its own, but with the project's own code."""

    @classmethod
    def make(cls, folder: Path) -> "Forked":
        (folder / "data").mkdir(parents=True)
        shutil.copy(PROJECT / "params.toml", folder)
        return cls(folder)

    @property
    def _source(self) -> None:
        return None

    def environment(self, **variables: str) -> dict[str, str]:
        """Settings that lead here, and to no network."""
        here = {
            "MNIST_SOURCE": "sample",
            "MNIST_OPENML_SERVER": "http://127.0.0.1:9",
            "MNIST_MIRRORS": "",
            "MNIST_DATA_DIR": str(self.data),
            "MNIST_PARAMS": str(self.folder / "params.toml"),
        }
        return super().environment(**here) | variables

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text in the params; the code belongs to others."""
        assert file == "params.toml"
        super().edit(file, old, new)
