"""The UI of clones, on the sample: first start, reload, materialize all, in Chromium.

Each clone has its `make install` behind it; they take turns, each round with no data. Seconds are
medians, and ratios are of `import dagster` in the same rounds. Run it with
`python -m benchmarks.ui CLONE ...`.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks.nothing_changed import seconds
from mnist_pipeline_tests.support.browser import launched
from mnist_pipeline_tests.support.servers import free_port
from mnist_pipeline_tests.support.webserver import Webserver, until

ROUNDS = 3

MATERIALIZED = "{ assetNodes { assetMaterializations(limit: 1) { timestamp } } }"
RUNNING = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) {
    ... on Runs { results { runId } } } }"""

IMPORT = "`import dagster`"


def is_green(webserver: Webserver) -> bool:
    """Return whether every asset is materialized and no run goes on."""
    nodes = webserver.ask(MATERIALIZED)["assetNodes"]
    made = all(one["assetMaterializations"] for one in nodes)
    return made and not webserver.ask(RUNNING)["runsOrError"]["results"]


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(clone: Path, page: Page) -> dict[str, float]:
    """Start the UI of a clone without data, reload, click *Materialize all*; stop it."""
    webserver = Webserver(free_port(), Path(os.devnull))

    def usable() -> None:
        until(lambda: webserver.ask("{ version }"), pause=0.05)
        page.goto(f"{webserver.url}/asset-groups")
        expect(page.get_by_role("button", name="Materialize all")).to_be_enabled(timeout=60_000)

    def reload() -> None:
        page.get_by_role("button", name="Reload definitions").click()
        page.get_by_text("Definitions reloaded!").wait_for()

    def materialize() -> None:
        page.get_by_role("button", name="Materialize all").click()
        until(lambda: is_green(webserver), pause=0.1)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        environment = {
            "MNIST_SOURCE": "sample",
            "MNIST_DATA_DIR": data,
            "DAGSTER_HOME": f"{data}/dagster_home",
        }
        command = [str(clone / ".venv/bin/mnist-pipeline"), "ui"]
        process = subprocess.Popen(
            [*command, "--port", str(webserver.port)],
            env=os.environ | environment,
            cwd=clone,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return {
                "first start to a usable page": timed(usable),
                "reload of the definitions": timed(reload),
                "*Materialize all* to all green": timed(materialize),
            }
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def table(clones: list[Path]) -> str:
    """Measure all clones in turn; return the Markdown table."""
    imported = [sys.executable, "-c", "import dagster"]
    found: dict[tuple[str, str], list[float]] = {}
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        for _ in range(ROUNDS):
            found.setdefault((IMPORT, ""), []).append(seconds(imported, {}, Path.cwd()))
            for clone in clones:
                for name, taken in measured(clone, page).items():
                    found.setdefault((name, clone.name), []).append(taken)
    one = statistics.median(found[IMPORT, ""])
    lines = [f"| | s | of {IMPORT} |", "|---|---|---|"]
    for (name, where), every in found.items():
        taken = statistics.median(every)
        label = f"{name}, {where}" if where and len(clones) > 1 else name
        lines.append(f"| {label} | {taken:.2f} | {taken / one:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([Path(one).resolve() for one in sys.argv[1:]]))
