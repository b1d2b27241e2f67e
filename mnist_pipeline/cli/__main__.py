"""The command `mnist-pipeline`, also `python -m mnist_pipeline.cli`.

`status` and `refresh` answer at once where nothing changed; everything else is in `main`.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from mnist_pipeline.incremental.unchanged import QuickAnswers


def main() -> None:
    """Print the kept answer of a command if nothing changed, or run the command."""
    start = time.perf_counter()
    if sys.stdout is None:
        sys.exit("Error: stdout is closed: redirect it to /dev/null to drop what is printed")
    name, *options = sys.argv[1:] or [""]
    quick = None
    if name in {"status", "refresh"} and options in ([], ["--json"]):
        width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
        quick = QuickAnswers(Path(__file__).parents[1], f"{' '.join(sys.argv[1:])} {width}")
        found = quick.find()
        if isinstance(found, dict) and "seconds" in found:
            found["seconds"] = round(time.perf_counter() - start, 3)
        if found:
            with contextlib.suppress(OSError):  # the command reports that stdout is full or closed
                print(json.dumps(found) if options else found, flush=True)  # noqa: T201
                return
    from mnist_pipeline.cli.main import main as run

    run(quick)


if __name__ == "__main__":
    main()
