"""A backfill of candidate over all variants in a real `dagster dev`, as the UI launches it."""

import json
from typing import Any

import pytest

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.test_experiments import VARIANTS, leaderboard
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.webserver import running, until


@pytest.mark.parametrize(
    "assets",
    [
        pytest.param(["candidate"], id="candidate"),
        # Dagster looks after a backfill every 30 s: the leaderboard comes a minute later
        pytest.param(["candidate", "leaderboard"], id="both", marks=pytest.mark.slow),
    ],
)
def test_a_backfill_fits_all_variants_and_the_leaderboard_compares_them(
    assets: list[str], furnished_clone: Clone
) -> None:
    with (furnished_clone.folder / "params.toml").open("a") as file:
        file.write(VARIANTS)
    with running(["dagster", "dev"], furnished_clone) as webserver:
        # the sensor is on from the start
        names = until(lambda: webserver.partitions("candidate"))
        assert names == ["small", "smooth", "poor"]
        launched = webserver.backfill(assets, names)

        def of_backfill() -> list[dict[str, Any]]:
            runs = webserver.runs_of(launched)
            over = all(run["status"] in {"SUCCESS", "FAILURE", "CANCELED"} for run in runs)
            return runs if over and len(runs) == len(names) + len(assets) - 1 else []

        runs = until(of_backfill, seconds=240)
        assert {run["status"] for run in runs} == {"SUCCESS"}
        partitions_made = {run["tags"].get("dagster/partition") for run in runs} - {None}
        assert partitions_made == set(names)
        stale = webserver.stale()
    assert {stale[asset] for asset in [*ASSETS, *assets]} == {"FRESH"}
    before = [leaderboard(furnished_clone.data)] if "leaderboard" in assets else []
    # the command line finds nothing more to fit
    assert json.loads(furnished_clone.cli("compare", "--json").stdout)["fitted"] == []
    board = leaderboard(furnished_clone.data)
    assert {one.variant for one in board.entries} == set(names)
    assert board.entries[-1].variant == "poor"
    assert not board.left_out
    assert before in ([], [board])
