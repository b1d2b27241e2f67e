"""Decode and split of all 70,000 digits beside scikit-learn's `fetch_openml`, whole processes.

Each side is a process of its own, in turn, from a warm disk. Ours reads the archive that
`raw_mnist` keeps and writes both splits; `fetch_openml` reads its own cache, filled from a loopback
server. Its default parser fails on mnist_784 with pandas 3, so it runs in an environment with
pandas 2.3, made once under .venv. Run it with `make bench`.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.settings import PROJECT, Settings
from mnist_pipeline_tests.openml_server import OpenML, serve

RUNS = 5

OURS = """
import sys
from pathlib import Path
from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.digits.split import split
from mnist_pipeline.digits.table import decode
archive, out = map(Path, sys.argv[1:])
table = decode(Archive(archive.read_bytes(), archive.name))
drawn = split(table, test_size=0.2, random_state=42)
for name, part in zip(drawn._fields, drawn):
    (out / f"{name}_set.parquet").write_bytes(part.to_parquet())
"""

THEIRS = """
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

MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""


def measure(*command: str) -> tuple[float, float]:
    """Run a command and return its seconds and its peak memory in MB."""
    printed = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    seconds, megabytes = map(float, printed.split())
    return seconds, megabytes


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
    kept = sorted(Settings.load().data_dir.glob("raw_mnist/*/mnist_784.arff.gz"))
    if not kept:
        sys.exit("No mnist_784 in the store: `make run SOURCE=openml` first, or set MNIST_ARCHIVE.")
    return max(kept, key=lambda path: path.stat().st_mtime)


def main() -> None:
    """Measure both sides in turn and print a Markdown table."""
    file = archive()
    packed = Archive(file.read_bytes(), file.name)
    theirs_python = pandas_2()
    with tempfile.TemporaryDirectory() as folder, serve(OpenML(packed.data, packed.md5)) as server:
        ours = [sys.executable, "-c", OURS, str(file), folder]
        theirs = [theirs_python, "-c", THEIRS, server.url, f"{folder}/cache"]
        measure(*theirs)  # fills its cache
        rounds = [(measure(*ours), measure(*theirs)) for _ in range(RUNS)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"\nmedian of {RUNS} alternating runs, whole processes\n")
    print("| | decode and split, both files written | `fetch_openml`, cached | ratio |")
    print("|---|---|---|---|")
    for index, unit in enumerate(["seconds", "MB peak"]):
        pairs = [(mine[index], other[index]) for mine, other in rounds]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(mine / other for mine, other in pairs)
        print(f"| {unit} | {mine:.1f} | {other:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
