"""What `refresh` and `status` cost when nothing changed, beside `import dagster`: whole processes.

Everything is made once from the sample in a folder of its own. Then each command and its yardstick
run in turn, PAIRS times. Run it with `make bench`.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRS = 7
MOST = 3.0
"""Times `import dagster` that either may take."""

YARDSTICK = [sys.executable, "-c", "import dagster"]


def main() -> None:
    """Measure both commands and print their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "MNIST_SOURCE": "sample",
            "MNIST_DATA_DIR": folder,
            "DAGSTER_HOME": str(Path(folder) / "dagster_home"),
        }
        refresh = [sys.executable, "-m", "mnist_pipeline.cli", "refresh", "--json"]
        status = [sys.executable, "-m", "mnist_pipeline.cli", "status", "--json"]
        seconds(refresh, environment)
        slow = False
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        for name, command in {"refresh --json": refresh, "status --json": status}.items():
            pairs = [
                (seconds(YARDSTICK, environment), seconds(command, environment))
                for _ in range(PAIRS)
            ]
            yardstick, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(ours / yardstick for yardstick, ours in pairs)
            slow |= ratio > MOST
            print(f"{name:<15} {ours:.2f} s, import dagster {yardstick:.2f} s: ratio {ratio:.2f}")
        found = json.loads(subprocess.check_output(refresh, env=environment))
        if found["materialized"]:
            sys.exit(f"something was materialized: {found}")
        if slow:
            sys.exit(f"more than {MOST} times import dagster")


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall clock of one whole process."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
