"""A backfill of candidate over all variants in a real `dagster dev`, as the UI launches it."""

from typing import Any

import pytest

from mnist_pipeline_tests.support.clones import ASSETS, VARIANTS, Clone
from mnist_pipeline_tests.support.webserver import running, until


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

        runs = until(of_backfill, seconds=300)
        assert {run["status"] for run in runs} == {"SUCCESS"}
        partitions = {run["tags"].get("dagster/partition") for run in runs} - {None}
        assert partitions == set(names)
        stale = webserver.stale()
    assert {stale[asset] for asset in [*ASSETS, *assets]} == {"FRESH"}
    # the command line finds nothing more to fit
    compared = furnished_clone.json("compare")
    assert compared["fitted"] == []
    assert {one["variant"] for one in compared["entries"]} == set(names)
    assert compared["entries"][-1]["variant"] == "poor"
    assert not compared["left_out"]
