"""Whole processes, timed from outside: their seconds, their peak memory, what they print."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

# a child's peak starts at what its parent held when it forked: measured from a small one.
# Pages mapped from files are not counted where /proc says which those are
_MEASURED = """
import json, re, resource, subprocess, sys, tempfile, time
from pathlib import Path
start, peak = time.perf_counter(), 0.0
with tempfile.TemporaryFile("w+") as printed:
    done = subprocess.Popen(sys.argv[1:], stdout=printed)
    status = Path("/proc", str(done.pid), "status")
    while done.poll() is None:
        time.sleep(0.02)
        if status.exists() and (found := re.search(r"RssAnon:\\s+(\\d+) kB", status.read_text())):
            peak = max(peak, 1024 * int(found[1]) / 1e6)
    seconds = time.perf_counter() - start
    unit = 1e6 if sys.platform == "darwin" else 1e3
    peak = peak or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    printed.seek(0)
    print(json.dumps({"seconds": seconds, "megabytes": peak, "printed": printed.read()}))
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Measured:
    """One run of a process: wall clock, peak private memory in MB, and the JSON it printed."""

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
