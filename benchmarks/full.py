"""Everything on all 70,000 digits, in one run, beside the tutorial: seconds, memory, accuracy.

Each figure is a process of its own. What is compared runs in turn. The tables go to
`docs/benchmarks.md`, and the first one between the marks in the README. Run it with `make bench`;
it takes about half an hour.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks import growth, nothing_changed, ui
from benchmarks.processes import Measured, measure
from benchmarks.tables import data_table, machine, models_table, pipeline_table
from mnist_pipeline.config.settings import PROJECT, Settings
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline_tests.support.openml_server import OpenML, serve

RUNS = 7

ALPHA = 1e-5
"""Of the preset `fast`."""

FETCH_OPENML = """
import sys
import sklearn.datasets
import sklearn.datasets._openml as client
for name in ("_SEARCH_NAME", "_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES"):
    url = getattr(client, name)
    setattr(client, name, url.replace("https://www.openml.org", sys.argv[1]))
X, y = sklearn.datasets.fetch_openml(
    "mnist_784", version=1, return_X_y=True, data_home=sys.argv[2]
)
assert X.shape == (70000, 784)
"""

MARKS = "<!-- benchmarks: written by make bench -->", "<!-- end of benchmarks -->"


def step(name: str, *arguments: str) -> Measured:
    """Measure one of `benchmarks.steps`."""
    print(f"measuring {name} {' '.join(Path(part).name for part in arguments)}", file=sys.stderr)
    return measure([sys.executable, "-m", "benchmarks.steps", name, *arguments])


def pandas_2() -> str:
    """Return the interpreter of an environment in which `fetch_openml` works on mnist_784."""
    folder = PROJECT / ".venv" / "fetch_openml"
    python = folder / "bin" / "python"
    if not python.exists():
        print("making an environment with pandas 2.3 (once)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        packages = ["pandas>=2.3,<2.4", "scikit-learn>=1.8,<1.10"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def archive() -> Path:
    """Return the newest OpenML archive in the store, or the one that MNIST_ARCHIVE names."""
    if named := os.environ.get("MNIST_ARCHIVE"):
        return Path(named)
    kept = sorted(Path(str(Settings.load().data_dir)).glob("raw_mnist/*/mnist_784.arff.gz"))
    if not kept:
        sys.exit("No mnist_784 in the store: `make run SOURCE=openml` first, or set MNIST_ARCHIVE.")
    return max(kept, key=lambda path: path.stat().st_mtime)


def pipeline(server: str, folder: Path, command: str, alpha: float = ALPHA) -> Measured:
    """Measure the command line on all digits, downloaded from a server on this machine."""
    print(f"measuring mnist-pipeline {command}", file=sys.stderr)
    folder.mkdir(exist_ok=True)
    params = folder / "params.toml"
    chosen = f"[model]\nalpha = {alpha}\n"
    params.write_text((PROJECT / "params.toml").read_text().replace("[model]\n", chosen))
    return measure(
        [sys.executable, "-m", "mnist_pipeline.cli", command, "--json"],
        MNIST_SOURCE="openml",
        MNIST_OPENML_SERVER=server,
        MNIST_DATA_DIR=str(folder),
        MNIST_PARAMS=str(params),
        DAGSTER_HOME=str(folder / "dagster_home"),
    )


def main() -> None:
    """Measure everything in turn and write the tables."""
    file = str(archive())
    packed = Archive(Path(file).read_bytes(), Path(file).name)
    python = pandas_2()
    with (
        tempfile.TemporaryDirectory() as name,
        serve(OpenML(packed.data, packed.data_version)) as server,
    ):
        folder = Path(name)
        fetch = [python, "-c", FETCH_OPENML, server.url, f"{name}/cache"]
        measure(fetch)  # fills its cache
        data = [
            (measure(fetch), step("decode_and_split", file, name), step("read_splits", name))
            for _ in range(RUNS)
        ]
        models = [(step("reference", file), step("preset", file, "fast")) for _ in range(RUNS)]
        runs = [
            (pipeline(server.url, folder / str(run), "run"), step("reference", file))
            for run in range(RUNS)
        ]
        changed = [
            (
                pipeline(server.url, folder / "0", "refresh", ALPHA * (1 + (1 + run) / 100)),
                step("preset", file, "fast"),
            )
            for run in range(RUNS)
        ]
        last = ALPHA * (1 + RUNS / 100)
        no_op = [pipeline(server.url, folder / "0", "refresh", last) for _ in range(RUNS)]
    tutorial = step("tutorial", file)
    scaled, accurate = (step("preset", file, preset) for preset in ("scaled", "accurate"))
    own = {preset: step("preset", file, preset, "own") for preset in ("fast", "accurate")}
    table = models_table(tutorial, models, scaled, accurate)
    whole = pipeline_table(runs, changed, no_op)
    page = "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`. Each figure is of a process of its own; what is compared ran "
            f"in turn, {RUNS} times, and seconds and ratios are medians.",
            "",
            machine(),
            "",
            "## Models",
            "",
            table,
            "",
            "On MNIST's own split (fitted on nine tenths of its 60,000 training digits, tested on "
            "its 10,000):",
            "",
            "| preset | accuracy | features and fit, s |",
            "|---|---|---|",
            *(
                f"| `{preset}` | {found.printed['accuracy']:.2%} "
                f"| {found.printed['features and fit']:.1f} |"
                for preset, found in own.items()
            ),
            "",
            "## Data",
            "",
            data_table(data),
            "",
            "## The whole pipeline",
            "",
            whole,
            "",
            "## Nothing changed",
            "",
            f"On the sample, {nothing_changed.ROUNDS} rounds in which all run in turn. A complete "
            "check is made by the first command after a change; later ones only look for a change.",
            "",
            nothing_changed.table(),
            "",
            "## As the history grows",
            "",
            "A chain of trivial assets, in one process, with so many recorded materializations of "
            "all assets together, and as many results that a run could reuse.",
            "",
            growth.table(),
            "",
            "## In the UI",
            "",
            f"On the sample, in Chromium, {ui.ROUNDS} rounds.",
            "",
            ui.table([PROJECT]),
            "",
        ]
    )
    (PROJECT / "docs" / "benchmarks.md").write_text(page)
    readme = PROJECT / "README.md"
    before, rest = readme.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    readme.write_text(
        f"{before}{MARKS[0]}\n\n{machine()}\n\n{table}\n\n{whole}\n\n{MARKS[1]}{after}"
    )
    print(page)


if __name__ == "__main__":
    main()
