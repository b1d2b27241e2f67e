"""The notebook: its cells run from first to last, and show what its text promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import ASSETS

NOTEBOOK = PROJECT / "notebooks" / "mnist.py"


def test_the_notebook_runs_from_first_to_last_and_the_pipelines_model_beats_the_tutorials(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, NOTEBOOK],
        env=os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "4,000 training and 1,000 test digits" in done.stdout
    tutorial, fast = map(float, re.findall(r"accuracy of .*?: ([\d.]+)%", done.stdout))
    assert 80 < tutorial < 92 < 95 < fast
    [computed] = re.findall(r"computed: (.*)", done.stdout)
    assert set(computed.split(", ")) == ASSETS
    assert "computed again: nothing" in done.stdout
    assert "the champion: promoted" in done.stdout


def test_its_cells_are_marked_as_jupytext_reads_them() -> None:
    text = NOTEBOOK.read_text()
    assert text.startswith("# ---\n# jupyter:\n")
    cells = re.findall(r"(?m)^# %%.*$", text)
    assert {*cells} == {"# %%", "# %% [markdown]"}
    assert len(cells) > 10
