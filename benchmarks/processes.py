"""Whole processes, timed from outside: their seconds, their peak memory, what they print."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

# a child's peak starts at what its parent held when it forked: measured from a small one
_MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - start
unit = 1e6 if sys.platform == "darwin" else 1e3
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
print(json.dumps({"seconds": seconds, "megabytes": peak, "printed": done.stdout}))
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Measured:
    """One run of a process: wall clock, peak resident memory in MB, and the JSON it printed."""

    seconds: float
    megabytes: float
    printed: dict[str, Any]


def measure(command: list[str], **environment: str) -> Measured:
    """Run a command that prints one JSON document, or nothing."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command],
        env=os.environ | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout)
    printed = json.loads(found["printed"]) if found["printed"].strip() else {}
    return Measured(found["seconds"], found["megabytes"], printed)
