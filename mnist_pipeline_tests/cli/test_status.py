"""The commands `status`, `refresh`, `history` and `gc`: their documents and their tables."""

import contextlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mnist_pipeline.incremental import runs
from mnist_pipeline_tests.assets.test_edits import ALL
from mnist_pipeline_tests.conftest import flip_a_byte
from mnist_pipeline_tests.support.clones import Forked


def digests(forked: Forked, asset: str) -> set[str]:
    return {path.name for path in (forked.data / asset).iterdir()}


def test_after_a_full_run_everything_is_fresh_and_refresh_computes_nothing(
    furnished_forked: Forked,
) -> None:
    found = furnished_forked.json("refresh")
    assert found.keys() == {"status", "materialized", "reused", "fresh", "seconds"}
    assert (found["status"], found["materialized"], found["reused"]) == ("success", [], [])
    assert set(found["fresh"]) == ALL
    for asset, status in furnished_forked.status("--verify").items():
        assert status.keys() == {
            "key", "status", "causes", "data_version", "code_version", "path"
        }  # fmt: skip
        assert (status["status"], status["causes"]) == ("fresh", [])
        [path] = furnished_forked.data.glob(f"{asset}/*/*")
        assert status["path"] == str(path)
        assert re.fullmatch("[0-9a-f]{64}", path.parent.name)
    table = furnished_forked.cli("status").stdout
    assert table.count("up to date") == len(ALL)
    assert "Everything is up to date" in furnished_forked.cli("refresh").stdout


def test_status_of_nothing_and_what_refresh_would_do(forked: Forked) -> None:
    assert {found["status"] for found in forked.status().values()} == {"missing"}
    plan = forked.json("refresh", "--dry-run")
    assert (set(plan["planned"]), plan["materialized"], plan["fresh"]) == (ALL, [], [])
    assert "raw_mnist" in forked.cli("refresh", "--dry-run").stdout
    assert not list(forked.data.glob("raw_mnist/*"))


def test_status_verify_fails_where_a_file_is_damaged_and_refresh_verify_repairs_it(
    furnished_forked: Forked,
) -> None:
    [file] = furnished_forked.data.glob("test_set/*/*")
    flip_a_byte(file)
    completed = furnished_forked.cli("status", "--verify", "--json")
    assert completed.returncode == 1
    document = json.loads(completed.stdout)
    assert document["error"] == "damaged: test_set"
    [found] = [one for one in document["assets"] if one["key"] == "test_set"]
    assert found["status"] == "damaged"
    assert "test_set" in furnished_forked.json("refresh", "--verify")["materialized"]
    assert furnished_forked.cli("status", "--verify").returncode == 0


def test_a_refusal_is_a_failure_in_every_document_however_often(furnished_forked: Forked) -> None:
    before = furnished_forked.status()
    [made] = furnished_forked.data.glob("evaluation/*/evaluation.json")
    accuracy = json.loads(made.read_bytes())["accuracy"]
    furnished_forked.edit("params.toml", "least_accuracy = 0.5", "least_accuracy = 0.999")
    for _ in range(2):
        completed = furnished_forked.cli("refresh", "--json")
        assert completed.returncode == 1
        found = json.loads(completed.stdout)
        assert (found["status"], found["materialized"]) == ("failure", [])
        assert "evaluation is refused and not published" in found["error"]
        assert set(found["fresh"]) == ALL - {"evaluation", "champion_model", "report"}
        status = furnished_forked.status()
        assert status["evaluation"]["status"] == "refused"
        assert status["evaluation"]["causes"][:2] == [
            "refused by its check plausible: "
            f"accuracy {accuracy:.4f}, at least 0.9990 is plausible",
            "params changed: evaluation.least_accuracy 0.5 -> 0.999",
        ]
        for asset in ALL:
            assert status[asset]["data_version"] == before[asset]["data_version"]
    furnished_forked.edit("params.toml", "least_accuracy = 0.999", "least_accuracy = 0.4")
    # the last attempt was refused, and another one would be under other params
    assert (
        "params changed: evaluation.least_accuracy 0.5 -> 0.4"
        in (furnished_forked.status()["evaluation"]["causes"])
    )
    assert "evaluation" in furnished_forked.json("refresh")["materialized"]


def test_history_lists_versions_trigger_and_accuracy_newest_first(furnished_forked: Forked) -> None:
    furnished_forked.edit("params.toml", 'preset = "fast"', 'preset = "fast"\nalpha = 0.001')
    furnished_forked.json("refresh")
    found = furnished_forked.json("history", "evaluation")["materializations"]
    assert [entry["trigger"] for entry in found] == ["mnist-pipeline refresh", "mnist-pipeline run"]
    assert [entry["reused_from"] for entry in found] == [None, None]
    assert all(entry["asset"] == "evaluation" for entry in found)
    assert found[0]["accuracy"] != found[1]["accuracy"]
    assert found[1]["accuracy"] == pytest.approx(0.975, abs=0.01)
    status = furnished_forked.status()["evaluation"]
    assert found[0]["data_version"] == status["data_version"] != found[1]["data_version"]
    table = furnished_forked.cli("history", "evaluation").stdout
    assert "mnist-pipeline refresh" in table
    assert f"{found[0]['accuracy']:.2%}" in table


def test_history_of_an_asset_that_does_not_exist_is_wrong_usage(forked: Forked) -> None:
    completed = forked.cli("history", "model", "--json")
    assert completed.returncode == 2
    assert "the assets are champion_model" in json.loads(completed.stdout)["error"]


def test_gc_keeps_the_newest_and_the_champions_model_and_lists_before_it_removes(
    furnished_forked: Forked,
) -> None:
    [champion] = digests(furnished_forked, "sgd_model")
    furnished_forked.edit("params.toml", 'preset = "fast"', 'preset = "fast"\nalpha = 0.001')
    # a model that did not become the champion: nothing downstream was materialized
    assert furnished_forked.cli("run", "--select", "sgd_model").returncode == 0
    [between] = digests(furnished_forked, "sgd_model") - {champion}
    furnished_forked.edit("params.toml", "alpha = 0.001", "alpha = 0.01")
    assert furnished_forked.cli("run", "--select", "sgd_model").returncode == 0
    plan = furnished_forked.json("gc", "--keep", "1")
    path = furnished_forked.data / "sgd_model" / between
    assert plan["dry_run"]
    assert [item["path"] for item in plan["removed"]] == [str(path)]
    assert plan["removed"][0]["bytes"] > 10_000
    assert path.exists()
    assert furnished_forked.json("gc", "--keep", "3")["removed"] == []
    done = furnished_forked.json("gc", "--keep", "1", "--no-dry-run")
    assert (done["dry_run"], done["removed"]) == (False, plan["removed"])
    left = digests(furnished_forked, "sgd_model")
    assert champion in left
    assert (len(left), between in left) == (2, False)
    assert furnished_forked.json("gc", "--keep", "1")["removed"] == []


def test_gc_lists_old_runs_then_removes_them_and_prints_how_many(furnished_forked: Forked) -> None:
    home = furnished_forked.data / "dagster_home"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        job = dg.JobDefinition(name="refresh", graph_def=dg.GraphDefinition("refresh"))
        canceled = instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.CANCELED, tags={runs.OWNER: ""}
        )
    with contextlib.closing(sqlite3.connect(home / "history" / "runs.db")) as history, history:
        history.execute("UPDATE runs SET create_timestamp = datetime('now', '-200 days')"
                        "|| '.000000' WHERE run_id = ?", [canceled.run_id])  # fmt: skip
    plan = furnished_forked.json("gc", "--keep", "1")
    assert (plan["dry_run"], plan["runs"]) == (True, [canceled.run_id])
    said = furnished_forked.cli("gc", "--keep", "1", "--no-dry-run").stdout
    assert "and 1 runs, removed." in said
    assert furnished_forked.json("gc", "--keep", "1")["runs"] == []
    assert set(furnished_forked.json("refresh")["fresh"]) == ALL


def test_status_and_refresh_do_not_wait_for_a_pipe_or_a_device_in_the_place_of_params(
    furnished_forked: Forked,
) -> None:
    pipe = furnished_forked.folder / "pipe"
    os.mkfifo(pipe)
    for command in "status", "refresh":
        assert furnished_forked.cli(command).returncode == 0, "an answer is kept"
        for file in pipe, Path("/dev/zero"):
            completed = furnished_forked.cli(command, MNIST_PARAMS=str(file))
            assert completed.returncode == 2
            assert f"{file} is not a regular file" in completed.stderr


@pytest.mark.parametrize("columns", [40, 100])
def test_a_table_fits_the_terminal_and_is_whole_elsewhere(columns: int) -> None:
    table = (
        "from mnist_pipeline.cli.output import table; print(table(['a', 'b'], [['x y ' * 20] * 2]))"
    )
    command = shlex.join([sys.executable, "-c", table])
    in_terminal = ["script", "--quiet", "--command", f"stty cols {columns}; {command}", "/dev/null"]
    narrow = subprocess.run(in_terminal, check=True, capture_output=True, text=True).stdout
    assert 1 < max(len(line.rstrip()) for line in narrow.splitlines()) <= columns
    whole = subprocess.run(
        [sys.executable, "-c", table], check=True, capture_output=True, text=True
    )
    assert len(whole.stdout.splitlines()) == 2
