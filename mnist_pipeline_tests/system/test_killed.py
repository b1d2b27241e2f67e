"""A full run is killed at points spread over its life: nothing is ever lost or damaged."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline_tests.conftest import NEUTRAL, house_of
from mnist_pipeline_tests.support.clones import ASSETS, NEVER_REUSED
from mnist_pipeline_tests.support.processes import Processes


def processes(folder: Path) -> Processes:
    inherited = {name: value for name, value in os.environ.items() if "MNIST" not in name}
    environment = inherited | NEUTRAL | house_of(folder / "data")
    return Processes(folder / "commands", environment)


def statuses(at: Processes) -> dict[str, Any]:
    """What `status --verify` reports of each asset; it must find no damage."""
    document = at.run("status", "--verify", "--json").document()
    return {asset["key"]: asset for asset in document["assets"]}


def assert_true(
    data: Path, reported: dict[str, Any], recorded: set[str], expected: dict[str, str]
) -> None:
    """Compare what `status` reports with the history and with the files themselves."""
    for asset, found in reported.items():
        assert (found["status"] == "missing") == (asset not in recorded), found
        if asset in recorded:
            assert found["data_version"] == expected[asset]
            assert Path(found["path"]).is_file()
    for file in data.glob("*/[!.]*/*"):
        if "dagster_home" not in file.parts:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.parent.name


def test_a_run_killed_at_any_moment_loses_nothing_and_refresh_computes_only_the_rest(
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
    expected = {key: found["data_version"] for key, found in statuses(undisturbed).items()}
    assert set(expected) == ASSETS

    computed_again = 0
    # of six points three are changes of the store, one statement to the history, two times
    kinds = ["store", "history", "time", "store", "time", "store"] * (1 + points // 6)
    for point, kind in enumerate(kinds[:points]):
        folder = tmp_path / f"point-{point}"
        at = processes(folder)
        share = (point + 0.5) / points
        if kind == "time":
            victim = at.start("run", "--json")
            # it may be quicker this time: at the latest when all but the end is done
            end = time.monotonic() + share * seconds
            while time.monotonic() < end and "champion_model  done" not in victim.err:
                time.sleep(0.01)
            victim.process.kill()
        else:
            victim = at.start("run", "--json", kill_at=(kind, 1 + int(share * moments[kind])))
        assert victim.status() == -signal.SIGKILL, f"point {point}"

        reported = statuses(at)
        history = at.run("history", "--limit", "100", "--json").document()["materializations"]
        recorded = [one["asset"] for one in history]
        assert len(recorded) == len(set(recorded))
        assert_true(folder / "data", reported, set(recorded), expected)
        published = {path.parent.name for path in (folder / "data").glob("*/[!.]*[0-9a-f]")}
        refreshed = at.run("refresh", "--json").document()
        assert set(refreshed["fresh"]) == ASSETS
        up_to_date = {key for key, found in reported.items() if found["status"] == "fresh"}
        rest = refreshed["materialized"] + refreshed["reused"]
        assert len(rest) == len(set(rest))
        assert set(rest) == ASSETS - up_to_date
        # published but not recorded: at most the one step that was killed in between
        again = set(refreshed["materialized"]) & published - NEVER_REUSED
        assert len(again) <= 1, again
        computed_again += len(again)
        after = statuses(at)
        assert_true(folder / "data", after, ASSETS, expected)
        assert {found["status"] for found in after.values()} == {"fresh"}
    print(f"{points} points, 0 losses; {computed_again} published results computed again")  # noqa: T201
