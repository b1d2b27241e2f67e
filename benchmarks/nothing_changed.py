"""What a command costs when nothing changed, beside its peers: whole processes, in turn.

Everything is made once from the sample in a folder of its own. The peers are `import dagster`, DVC
on a pipeline of as many stages of trivial files, and Dagster itself on as many trivial assets. Run
it with `make bench`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

from mnist_pipeline.config.settings import PROJECT

ROUNDS = 9
STAGES = 8

KEPT = PROJECT / "mnist_pipeline" / "__pycache__" / "unchanged.json"
"""Without it a command makes the complete check."""

PLAIN = """
import dagster as dg

def one(n):
    @dg.asset(name=f"asset_{n}", deps=[f"asset_{n - 1}"] if n else [])
    def compute() -> None:
        return None
    return compute

defs = dg.Definitions([one(n) for n in range(%d)], executor=dg.in_process_executor)
"""


def dvc() -> str:
    """Return DVC of an environment of its own."""
    folder = PROJECT / ".venv" / "dvc"
    if not (folder / "bin" / "dvc").exists():
        print("making an environment with DVC (once)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "dvc>=3.60,<4"]
        subprocess.run(pip, check=True)
    return str(folder / "bin" / "dvc")


def dvc_project(folder: Path) -> Path:
    """Make a DVC project of trivial stages, and run it once."""
    folder.mkdir()
    (folder / "file0").write_text("content\n")
    stages = {
        f"stage{n}": {
            "cmd": f"cp file{n} file{n + 1}",
            "deps": [f"file{n}"],
            "outs": [f"file{n + 1}"],
        }
        for n in range(STAGES)
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    for command in (["init", "--no-scm", "--quiet"], ["repro", "--quiet"]):
        subprocess.run([dvc(), *command], cwd=folder, check=True)
    return folder


def seconds(command: list[str], environment: Mapping[str, str], folder: Path) -> float:
    """Wall clock of one whole process."""
    start = time.perf_counter()
    subprocess.run(
        command, env=os.environ | environment, cwd=folder, check=True, capture_output=True
    )
    return time.perf_counter() - start


def measured(folder: Path) -> dict[str, float]:
    """Return the median seconds of each command; in each round all run, one after another."""
    environment = {
        "MNIST_SOURCE": "sample",
        "MNIST_DATA_DIR": str(folder / "data"),
        "DAGSTER_HOME": str(folder / "data" / "dagster_home"),
        "DVC_NO_ANALYTICS": "1",
    }
    plain = folder / "plain"
    plain.mkdir()
    (plain / "plain.py").write_text(PLAIN % STAGES)
    (folder / "plain_home").mkdir()
    (folder / "plain_home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    stages = dvc_project(folder / "stages")
    ours = [sys.executable, "-m", "mnist_pipeline.cli"]
    dagster = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize"]
    launched = [*dagster, "--select", "*", "-f", "plain.py"]
    own_home = environment | {"DAGSTER_HOME": str(folder / "plain_home")}
    commands: dict[str, tuple[list[str], Mapping[str, str], Path]] = {
        "`import dagster`": ([sys.executable, "-c", "import dagster"], environment, PROJECT),
        f"`dvc status`, {STAGES} stages": ([dvc(), "status"], environment, stages),
        f"`dvc repro`, {STAGES} stages": ([dvc(), "repro"], environment, stages),
        f"`dagster asset materialize`, {STAGES} trivial assets": (launched, own_home, plain),
        "`status`": ([*ours, "status"], environment, PROJECT),
        "`refresh`": ([*ours, "refresh"], environment, PROJECT),
        "`status`, complete check": ([*ours, "status"], environment, PROJECT),
        "`refresh`, complete check": ([*ours, "refresh"], environment, PROJECT),
        "`run`, all reused": ([*ours, "run"], environment, PROJECT),
    }
    seconds([*ours, "run"], environment, PROJECT)
    found: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(ROUNDS + 1):
        for command in ("status", "refresh"):  # `run` came between: they check, and keep that
            seconds([*ours, command], environment, PROJECT)
        for name, command_of in commands.items():
            if name.endswith("complete check"):
                KEPT.unlink(missing_ok=True)
            taken = seconds(*command_of)
            if round_:  # the first is a warm-up
                found[name].append(taken)
    nothing = json.loads(
        subprocess.check_output([*ours, "refresh", "--json"], env=os.environ | environment)
    )
    if nothing["materialized"]:
        sys.exit(f"something was materialized: {nothing}")
    return {name: statistics.median(times) for name, times in found.items()}


def table() -> str:
    """Measure all commands and return the Markdown table."""
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name))
    imported, status = found["`import dagster`"], found[f"`dvc status`, {STAGES} stages"]
    lines = ["| whole process | s | of `import dagster` | of `dvc status` |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {taken:.2f} | {taken / imported:.2f} | {taken / status:.2f} |"
        for name, taken in found.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
