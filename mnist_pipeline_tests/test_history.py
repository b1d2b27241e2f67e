"""History, and what is kept of it: `history`, `gc`, and the runs that retraining prunes."""

import json
from collections.abc import Callable

import dagster as dg
import pytest

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.incremental import retention, runs
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import Store
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.test_pipeline import ASSETS


def versions(forked: Forked, asset: str) -> set[str]:
    return {path.name for path in (forked.data / asset).iterdir()}


def test_history_lists_versions_trigger_and_accuracy_newest_first(furnished_forked: Forked) -> None:
    furnished_forked.edit("params.toml", 'preset = "fast"', 'preset = "fast"\nalpha = 0.001')
    furnished_forked.json("refresh")
    found = furnished_forked.json("history", "evaluation")["materializations"]
    assert [entry["trigger"] for entry in found] == [
        "mnist-pipeline refresh",
        "mnist-pipeline run",
    ]
    assert all(entry["asset"] == "evaluation" for entry in found)
    assert found[0]["accuracy"] != found[1]["accuracy"]
    assert found[1]["accuracy"] == pytest.approx(0.975, abs=0.01)
    standing = furnished_forked.status()["evaluation"]
    assert found[0]["data_version"] == standing["data_version"] != found[1]["data_version"]
    assert found[0]["code_version"] == standing["code_version"]
    everything = furnished_forked.json("history", "--limit", "1000")["materializations"]
    assert len(everything) == len(ASSETS) + 5
    times = [entry["timestamp"] for entry in everything]
    assert times == sorted(times, reverse=True)
    table = furnished_forked.cli("history", "evaluation").stdout
    assert "mnist-pipeline refresh" in table
    assert f"{found[0]['accuracy']:.2%}" in table


def test_history_of_what_is_no_asset_is_wrong_usage(forked: Forked) -> None:
    completed = forked.cli("history", "model", "--json")
    assert completed.returncode == 2
    assert "the assets are champion_model" in json.loads(completed.stdout)["error"]


def test_gc_keeps_the_newest_and_the_champions_model_and_lists_before_it_removes(
    furnished_forked: Forked,
) -> None:
    first = furnished_forked.status()
    furnished_forked.edit("params.toml", 'preset = "fast"', 'preset = "fast"\nalpha = 0.001')
    # a model that did not become the champion: nothing below it was made
    assert furnished_forked.cli("run", "--select", "sgd_model").returncode == 0
    furnished_forked.edit("params.toml", "alpha = 0.001", "alpha = 0.01")
    assert furnished_forked.cli("run", "--select", "sgd_model").returncode == 0
    newest = furnished_forked.status()["sgd_model"]["data_version"]
    champion = first["sgd_model"]["data_version"]
    [between] = versions(furnished_forked, "sgd_model") - {newest, champion}
    unfinished = furnished_forked.data / "report" / ".v.tmp"
    unfinished.mkdir()

    plan = furnished_forked.json("gc", "--keep", "1")
    paths = [furnished_forked.data / "sgd_model" / between, unfinished]
    assert plan["dry_run"]
    assert [item["path"] for item in plan["removed"]] == [str(path) for path in paths]
    assert plan["removed"][0]["bytes"] > 10_000
    assert all(path.exists() for path in paths)

    assert furnished_forked.json("gc", "--keep", "3")["removed"] == plan["removed"][1:]
    assert furnished_forked.json("gc", "--keep", "1", "--no-dry-run")["removed"] == plan["removed"]
    assert versions(furnished_forked, "sgd_model") == {newest, champion}
    assert not unfinished.exists()
    for asset in set(ASSETS) - {"sgd_model"}:
        assert versions(furnished_forked, asset) == {first[asset]["data_version"]}
    assert furnished_forked.json("gc", "--keep", "1")["removed"] == []


def test_gc_removes_nothing_while_nobody_knows_which_model_is_in_service(
    furnished_forked: Forked,
) -> None:
    [champion] = furnished_forked.data.glob("champion_model/*/champion_model.json")
    champion.write_text("{}")
    completed = furnished_forked.cli("gc", "--keep", "1", "--no-dry-run", "--json")
    assert completed.returncode == 1
    assert "champion_model is damaged" in json.loads(completed.stdout)["error"]
    assert {asset: len(versions(furnished_forked, asset)) for asset in ASSETS} == dict.fromkeys(
        ASSETS, 1
    )


def test_old_runs_go_with_their_logs_but_not_those_of_the_newest_materializations(
    furnished: House, params: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RUN_DAYS", -1)
    monkeypatch.setattr(retention, "RUN_MATERIALIZATIONS", 1)
    graph = build_definitions(furnished.settings()).resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    [first] = furnished.instance.get_runs()
    assert retention.prune(furnished.instance, keys) == 0
    before = furnished.versions()
    other = furnished.materialize("sgd_model", {"MNIST_PARAMS": params("[model]\nalpha = 0.1\n")})
    again = furnished.materialize("sgd_model")
    refused = furnished.materialize(
        "evaluation", {"MNIST_PARAMS": params("[evaluation]\nleast_accuracy = 0.999\n")}
    )

    @dg.op
    def of_another_project() -> None:
        pass

    @dg.job
    def foreign() -> None:
        of_another_project()

    theirs = foreign.execute_in_process(instance=furnished.instance)
    home = furnished.folder / "dagster_home"
    logs = home / "storage" / refused.run_id
    assert logs.exists()
    # neither the newest materializations, nor earlier ones of the same versions
    assert retention.prune(furnished.instance, keys) == 2
    assert {run.run_id for run in furnished.instance.get_runs()} == {
        first.run_id,
        again.run_id,
        theirs.run_id,
    }
    assert not logs.exists()
    for gone in (other, refused):
        assert not (home / "history" / "runs" / f"{gone.run_id}.db").exists()
    assert furnished.versions() == before


def test_pruning_leaves_an_unfinished_run_alone(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RUN_DAYS", -1)
    job = build_definitions(furnished.settings()).resolve_job_def("retrain_all")
    tags = runs.owner(furnished.instance, Store(furnished.folder), "")
    run = furnished.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert retention.prune(furnished.instance, []) == 1, "the finished one"
    assert [left.run_id for left in furnished.instance.get_runs()] == [run.run_id]


def test_gc_removes_nothing_that_another_instance_knows_of(furnished_forked: Forked) -> None:
    elsewhere = str(furnished_forked.folder / "elsewhere")
    completed = furnished_forked.cli(
        "gc", "--keep", "1", "--no-dry-run", "--json", DAGSTER_HOME=elsewhere
    )
    assert completed.returncode == 1
    error = json.loads(completed.stdout)["error"]
    assert f"Dagster's history in {elsewhere} knows of none" in error
    assert {asset: len(versions(furnished_forked, asset)) for asset in ASSETS} == dict.fromkeys(
        ASSETS, 1
    )


def test_gc_leaves_what_was_not_made_here_and_looks_past_reported_materializations(
    furnished: House,
) -> None:
    notes = furnished.folder / "sgd_model" / "notes"
    notes.mkdir()
    for asset in ("sgd_model", "champion_model"):
        furnished.instance.report_runless_asset_event(dg.AssetMaterialization(asset))
    job = build_definitions(furnished.settings()).resolve_job_def("retrain_all")
    arguments = furnished.instance, Store(furnished.folder), job
    assert retention.collect(*arguments, keep=1, remove=True) == []
    assert notes.exists()


def test_gc_stops_when_a_run_began_meanwhile(furnished: House) -> None:
    job = build_definitions(furnished.settings()).resolve_job_def("retrain_all")
    run = furnished.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    arguments = furnished.instance, Store(furnished.folder), job
    with pytest.raises(StoreError, match="a run began meanwhile"):
        retention.collect(*arguments, keep=1, remove=True)
    assert retention.collect(*arguments, keep=1, remove=False) == []
    furnished.instance.report_run_failed(run)
    assert retention.collect(*arguments, keep=1, remove=True) == []
