"""Twelve variants, a run each, on one worker, on two, and on two of which one is killed.

Real PostgreSQL, Redis and S3 servers on this machine; each worker has one thread and a folder of
its own. The table goes between the marks in `docs/deployment.md`. Run it with
`python -m benchmarks.workers`; it takes about twenty minutes. It needs the digits of OpenML in
the store, or an archive that MNIST_ARCHIVE names.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.full import archive
from benchmarks.tables import machine
from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline_tests.support import servers
from mnist_pipeline_tests.support.openml_server import OpenML, serve
from mnist_pipeline_tests.support.webserver import Webserver, until

CASES = {"one": (1, False), "two": (2, False), "two, one of them killed": (2, True)}
"""Workers, and whether the last one is killed when a third of the variants is fitted."""

MARKS = "<!-- measured: written by benchmarks/workers.py -->", "<!-- end of measured -->"

PARAMS = """
[model]
early_stopping = false
max_iter = 60

[sweep]
alpha = [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4]
whitening = [0.01, 0.1]
"""

VARIANTS = 12

ONE_THREAD = dict.fromkeys(["LOKY_MAX_CPU_COUNT", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], "1")

SENSOR = "experiments_a_run_each"


def fitted_by(ui: Webserver, victim: servers.Server | None) -> dict[str, Any]:
    """Fit all variants, each in a run of its own; return what came of it."""
    start = time.time()
    ui.start("sensor", SENSOR)

    def runs() -> list[dict[str, Any]]:
        every = [run for run in ui.runs() if run["tags"].get("dagster/sensor_name") == SENSOR]
        return [run for run in every if "leaderboard" not in run["assets"]]

    def fitted() -> int:
        return sum(run["status"] == "SUCCESS" for run in runs())

    if victim:
        until(lambda: fitted() >= VARIANTS // 3, seconds=1200)
        time.sleep(8)
        victim.stop()
    until(lambda: fitted() == VARIANTS, seconds=1800)
    seconds = time.time() - start
    ui.stop("sensor", SENSOR)
    every = runs()
    return {
        "seconds": seconds,
        "runs": len(every),
        "failed": sum(run["status"] == "FAILURE" for run in every),
    }


def measured(workers: int, kills: bool, folder: Path, openml: str) -> dict[str, Any]:
    """Deploy everything anew, fit the variants, compare what it made."""
    params = folder / "params.toml"
    params.write_text(PARAMS)
    with servers.s3(folder / "s3") as s3:
        variables = ONE_THREAD | {
            "MNIST_SOURCE": "openml",
            "MNIST_OPENML_SERVER": openml,
            "MNIST_MIRRORS": "",
            "MNIST_PARAMS": str(params),
            "MNIST_DATA_DIR": "s3://digits/mnist",
            "AWS_ENDPOINT_URL": s3.url,
            "AWS_ACCESS_KEY_ID": servers.S3_KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": servers.S3_KEYS["aws_secret_access_key"],
        }
        # the times of a deployment, not those of the tests
        with servers.deployment(folder, variables, workers, patience={}) as deployed:
            started = [deployed.worker(f"worker-{number}") for number in range(workers)]
            with deployed.head() as ui:
                head = next(one for one in deployed.machines if one.folder.name == "head")
                train = head.cli("run", "--json", "--select", "+key:train_set")
                assert train.returncode == 0, train.stdout + train.stderr
                found = fitted_by(ui, started[-1] if kills else None)
                compared = head.cli("compare", "--json")
                assert compared.returncode == 0, compared.stdout + compared.stderr
    return found | {"board": json.loads(compared.stdout)}


def main() -> None:
    """Measure the three, compare their leaderboards, and write the table."""
    packed = Archive(Path(file := archive()).read_bytes(), Path(file).name)
    found = {}
    with (
        tempfile.TemporaryDirectory() as name,
        serve(OpenML(packed.data, packed.data_version)) as openml,
    ):
        for number, (case, (workers, kills)) in enumerate(CASES.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            found[case] = measured(workers, kills, folder, openml.url)
            shown = {key: value for key, value in found[case].items() if key != "board"}
            print(case, shown, file=sys.stderr, flush=True)
    boards = [one["board"] for one in found.values()]
    for board in boards:
        assert board["fitted"] == [], "the runs left something to fit"
        assert len(board["entries"]) == VARIANTS
        assert board["entries"] == boards[0]["entries"], "the leaderboards differ"
    alone = found["one"]["seconds"]
    lines = [
        "| workers | s | times as fast as one | runs | of them lost |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {case} | {one['seconds']:.0f} | {alone / one['seconds']:.2f} | {one['runs']} "
        f"| {one['failed']} |"
        for case, one in found.items()
    ]
    text = f"{machine()}\n\n" + "\n".join(lines)
    page = PROJECT / "docs" / "deployment.md"
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    print(text)


if __name__ == "__main__":
    main()
