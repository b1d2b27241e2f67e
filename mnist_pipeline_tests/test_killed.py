"""A full run is killed at points spread over its life: nothing is ever lost or damaged."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.incremental.store import SUMS
from mnist_pipeline_tests.conftest import NEUTRAL, house_of
from mnist_pipeline_tests.processes import Processes
from mnist_pipeline_tests.test_pipeline import ASSETS


def processes(folder: Path) -> Processes:
    inherited = {name: value for name, value in os.environ.items() if "MNIST" not in name}
    environment = inherited | NEUTRAL | house_of(folder / "data")
    return Processes(folder / "commands", environment)


def standings(at: Processes) -> dict[str, Any]:
    """What `status --verify` says; it must find no damage."""
    document = at.run("status", "--verify", "--json").document()
    return {asset["key"]: asset for asset in document["assets"]}


def assert_true(
    folder: Path, said: dict[str, Any], made: set[str], expected: dict[str, str]
) -> None:
    """Compare what `status` says with the history and the files themselves."""
    for asset, standing in said.items():
        assert (standing["status"] == "missing") == (asset not in made), standing
        if asset in made:
            file = Path(standing["path"])
            recorded, name = (file.parent / SUMS).read_text().split()
            assert name == file.name
            assert hashlib.sha256(file.read_bytes()).hexdigest() == recorded
            assert standing["data_version"] == expected[asset]
    for sums in folder.glob("*/[!.]*/" + SUMS):
        recorded, name = sums.read_text().split()
        assert hashlib.sha256((sums.parent / name).read_bytes()).hexdigest() == recorded
    # killed between publication and its record, a version is there of which nobody knows; made
    # again, models and reports are other bytes, and those that were there are set aside
    assert {path.parent.name for path in folder.glob("*/*.damaged-*")} <= {"sgd_model", "report"}


def test_a_run_that_is_killed_at_any_moment_loses_nothing_and_is_gone_on_with(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    points = request.config.getoption("--kill-points")
    undisturbed = processes(tmp_path / "undisturbed")
    undisturbed.start("--help").status()  # what they are forked from is there now
    start = time.monotonic()
    command = undisturbed.start("run", "--json", moments=tmp_path / "moments")
    assert command.status() == 0, command.err
    seconds = time.monotonic() - start
    moments = json.loads((tmp_path / "moments").read_text())
    assert moments["store"] > 60
    assert moments["history"] > 500
    expected = {key: found["data_version"] for key, found in standings(undisturbed).items()}
    assert set(expected) == set(ASSETS)

    # of six points three are changes of the store, one statement to the history, two times
    kinds = ["store", "time", "store", "history", "time", "store"] * (1 + points // 6)
    for point, kind in enumerate(kinds[:points]):
        folder = tmp_path / f"point-{point}"
        at = processes(folder)
        share = (point + 0.5) / points
        if kind == "time":
            victim = at.start("run", "--json")
            # it may be quicker this time: at the latest when all but the end is made
            end = time.monotonic() + share * seconds
            while time.monotonic() < end and "champion_model  done" not in victim.err:
                time.sleep(0.01)
            victim.process.kill()
        else:
            victim = at.start("run", "--json", kill_at=(kind, 1 + int(share * moments[kind])))
        assert victim.status() == -signal.SIGKILL, f"point {point}"

        said = standings(at)
        history = at.run("history", "--limit", "100", "--json").document()["materializations"]
        made = [one["asset"] for one in history]
        assert len(made) == len(set(made))
        assert_true(folder / "data", said, set(made), expected)
        refreshed = at.run("refresh", "--json").document()
        assert set(refreshed["fresh"]) == set(ASSETS)
        fresh_before = {key for key, found in said.items() if found["status"] == "fresh"}
        assert set(refreshed["materialized"]) == set(ASSETS) - fresh_before
        after = standings(at)
        assert_true(folder / "data", after, set(ASSETS), expected)
        assert {found["status"] for found in after.values()} == {"fresh"}
