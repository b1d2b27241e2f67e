"""The buttons of the UI, by the GraphQL API of one real `dagster dev`: runs from the command line
are executed again, *Materialize unsynced* is clicked until nothing is unsynced, *Materialize all*,
a backfill. `system/test_ui.py` clicks in a browser, after other edits.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.clones import ASSETS, FAST, NEVER_REUSED, VARIANTS, Clone
from mnist_pipeline_tests.support.webserver import Webserver, running, until

FROM_MODEL = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
SPLITS = {"train_set", "test_set"}
DIGITS = "mnist_pipeline/digits"


class Opened(NamedTuple):
    clone: Clone
    ui: Webserver

    def edit(self, file: str, old: str, new: str) -> None:
        """Edit a file of the project and click *Reload definitions*."""
        self.clone.edit(file, old, new)
        self.ui.reload()

    def undo_all(self) -> None:
        """Undo all edits and click *Reload definitions*."""
        for file in ("params.toml", f"{DIGITS}/sources/arff.py"):
            shutil.copy(PROJECT / file, self.clone.folder / file)
        self.ui.reload()

    def succeeds(self, run_id: str) -> tuple[list[str], list[str]]:
        """Wait for the end of a run, a good one; return what it computed and what it reused."""
        assert self.ui.over(run_id) == "SUCCESS", self.ui.log(run_id)[-3000:]
        return self.ui.computed_and_reused(run_id)

    def until_synced(self) -> list[str]:
        """Click *Materialize unsynced* until nothing is; return what was computed."""
        computed: list[str] = []
        for _ in ASSETS:
            unsynced = {key for key, badge in self.ui.stale().items() if badge != "FRESH"}
            if not unsynced:
                return computed
            computed += self.succeeds(self.ui.materialize(unsynced))[0]
        raise AssertionError(f"still unsynced: {unsynced}")


@pytest.fixture(scope="module")
def opened(_furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A clone in which everything was made by `mnist-pipeline run`, in a running UI."""
    clone = Clone.make(tmp_path_factory.mktemp("unsynced") / "clone")
    shutil.copytree(_furnished, clone.data, dirs_exist_ok=True)
    with running(["dagster", "dev"], clone) as ui:
        yield Opened(clone, ui)


def test_a_run_of_the_command_line_is_in_the_timeline_and_is_executed_again_from_there(
    opened: Opened,
) -> None:
    clone, ui = opened
    [first] = ui.timeline("refresh")
    assert set(ui.steps(first)) == ASSETS
    again = ui.execute_again(first, "ALL_STEPS")
    computed, reused = opened.succeeds(again)
    assert set(computed) == NEVER_REUSED
    assert set(reused) == ASSETS - NEVER_REUSED
    assert set(ui.timeline("refresh")) == {first, again}

    clone.edit("params.toml", "least_accuracy = 0.5", "least_accuracy = 0.999")
    completed = clone.cli("refresh", "--json")
    assert "at least 0.9990 is plausible" in json.loads(completed.stdout)["error"]
    [failed] = set(ui.timeline("refresh")) - {first, again}
    assert ui.status(failed) == "FAILURE"
    opened.edit("params.toml", "least_accuracy = 0.999", "least_accuracy = 0.5")
    computed, reused = opened.succeeds(ui.execute_again(failed, "FROM_FAILURE"))
    assert set(computed) == {"champion_model"}
    assert set(reused) == {"evaluation", "report"}
    assert set(ui.stale().values()) == {"FRESH"}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        pytest.param(
            "params.toml", "\nsize = 0.1\n", "\nsize = 0.12\n", FROM_MODEL,
            id="validation.size", marks=pytest.mark.slow,
        ),
        pytest.param(
            "params.toml", "0.2\nrandom_state = 42", "0.2\nrandom_state = 7",
            ASSETS - {"raw_mnist"}, id="split.random_state",
        ),
        pytest.param(
            f"{DIGITS}/sources/arff.py", "number", "line_number", SPLITS, id="ARFF reader",
        ),
    ],
)  # fmt: skip
def test_materialize_unsynced_until_nothing_is_fails_nowhere_and_computes_nothing_twice(
    file: str, old: str, new: str, expected: set[str], opened: Opened
) -> None:
    opened.edit(file, old, new)
    computed = opened.until_synced()
    assert set(computed) == expected
    assert len(computed) == len(expected)


def test_materialize_all_computes_in_one_click_what_refresh_computes_and_nothing_for_edits_undone(
    opened: Opened,
) -> None:
    clone, ui = opened
    opened.undo_all()
    clone.edit(f"{DIGITS}/sources/arff.py", "number", "nth")
    opened.edit("params.toml", FAST, f"{FAST}alpha = 1e-4\n")
    planned = set(clone.json("refresh", "--dry-run")["planned"])
    computed, reused = opened.succeeds(ui.materialize())
    assert planned >= SPLITS | FROM_MODEL
    assert set(computed) == SPLITS | FROM_MODEL | NEVER_REUSED
    assert len(computed + reused) == len(ASSETS)
    assert set(ui.stale().values()) == {"FRESH"}
    assert clone.json("refresh")["materialized"] == []

    opened.undo_all()
    computed, reused = opened.succeeds(ui.materialize())
    assert set(computed) == NEVER_REUSED
    assert len(reused) == len(ASSETS - NEVER_REUSED)
    assert {found["status"] for found in clone.status().values()} == {"fresh"}


@pytest.mark.parametrize(
    "assets",
    [
        pytest.param(["candidate"], id="candidate"),
        # Dagster looks after a backfill every 30 s: the leaderboard comes a minute later
        pytest.param(["candidate", "leaderboard"], id="both", marks=pytest.mark.slow),
    ],
)
def test_a_backfill_fits_all_variants_and_the_leaderboard_compares_them(
    assets: list[str], opened: Opened
) -> None:
    clone, ui = opened
    if VARIANTS not in (params := clone.folder / "params.toml").read_text():
        params.write_text(params.read_text() + VARIANTS)
        ui.reload()
    # the sensor is on from the start
    names = until(lambda: ui.partitions("candidate"))
    assert names == ["small", "smooth", "poor"]
    launched = ui.backfill(assets, names)

    def of_backfill() -> list[dict[str, Any]]:
        runs = ui.runs_of(launched)
        over = all(run["status"] in {"SUCCESS", "FAILURE", "CANCELED"} for run in runs)
        return runs if over and len(runs) == len(names) + len(assets) - 1 else []

    runs = until(of_backfill, seconds=300)
    assert {run["status"] for run in runs} == {"SUCCESS"}
    partitions = {run["tags"].get("dagster/partition") for run in runs} - {None}
    assert partitions == set(names)
    stale = ui.stale()
    assert {stale[asset] for asset in [*ASSETS, *assets]} == {"FRESH"}
    # the command line finds nothing more to fit
    compared = clone.json("compare")
    assert compared["fitted"] == []
    assert {one["variant"] for one in compared["entries"]} == set(names)
    assert compared["entries"][-1]["variant"] == "poor"
    assert not compared["left_out"]
