"""The champion as Dagster and the command line show it: refusals, promotions, the way back."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.assets import champion_history
from mnist_pipeline.definitions import RETRAIN_ALL, build_definitions
from mnist_pipeline.digits import gate, training
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.gate import Rival
from mnist_pipeline.digits.progress import Report
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.incremental import retention
from mnist_pipeline.params import ModelParams
from mnist_pipeline_tests.conftest import House, Materialized

DECIDED = "key:sgd_model or key:predictions or key:evaluation or key:champion_model"
"""From the model to the champion."""


@pytest.fixture
def swapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, models are fitted with the labels of 3 and 5 swapped."""

    def swap() -> None:
        fit = training.fit

        def deceived(
            params: ModelParams, parts: Parts, report: Report = lambda text: None
        ) -> TrainedModel:
            labels = parts.fitted.labels.copy()
            labels[parts.fitted.labels == 3], labels[parts.fitted.labels == 5] = 5, 3
            return fit(
                params,
                dataclasses.replace(parts, fitted=dataclasses.replace(parts.fitted, labels=labels)),
                report,
            )

        monkeypatch.setattr(training, "fit", deceived)

    return swap


def decide(house: House, **tags: str) -> tuple[dg.ExecuteInProcessResult, Materialized]:
    """Run `champion_model` with these tags of `service`."""
    names = {"roll_back": champion_history.ROLL_BACK, "allow": champion_history.ALLOW}
    job = build_definitions(house.settings()).resolve_job_def(RETRAIN_ALL)
    result = job.execute_in_process(
        instance=house.instance,
        asset_selection=[champion_history.CHAMPION],
        tags={names[name]: value for name, value in tags.items()},
        raise_on_error=False,
    )
    return result, house.made("champion_model")


def test_a_bad_model_is_refused_a_good_one_promoted_and_a_rollback_returns(
    furnished: House,
    params: Callable[[str], str],
    swapped: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = furnished.made("champion_model")
    good = furnished.made("sgd_model").data_version
    assert json.loads(first.path.read_bytes()) == {"model_version": good, "barred": {}}

    fit = training.fit
    swapped()
    assert furnished.materialize(DECIDED).success, "a refusal is no failure"
    bad = furnished.made("sgd_model").data_version
    assert bad != good
    refused = furnished.made("champion_model")
    assert refused.storage_id > first.storage_id
    assert refused.data_version == first.data_version
    assert refused.metadata["model_version"] == good
    assert refused.metadata["candidate"] == bad
    assert refused.metadata["decision"].startswith("refused: ")
    check = furnished.check("champion_model", "in_service")
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description == refused.metadata["decision"]

    # decided again, nothing changes
    result, again = decide(furnished)
    assert result.success
    assert again.data_version == first.data_version
    assert again.metadata["decision"] == refused.metadata["decision"]

    monkeypatch.setattr(training, "fit", fit)
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, other).success
    better = furnished.made("sgd_model").data_version
    promoted = furnished.made("champion_model")
    assert better not in {bad, good}
    assert promoted.metadata["model_version"] == better
    assert promoted.metadata["decision"].startswith("promoted: ")
    assert "not significantly worse than the champion" in promoted.metadata["decision"]
    assert promoted.metadata["p_value"] >= promoted.metadata["level"] == 0.05
    assert furnished.check("champion_model", "in_service").passed

    result, back = decide(furnished, roll_back="previous")
    assert result.success
    assert back.metadata["decision"].endswith(f"rolled back from {better} to {good}")
    assert furnished.check("champion_model", "only_training_rows").passed, "asked all the same"
    assert json.loads(back.path.read_bytes()) == {
        "model_version": good,
        "barred": {better: f"rolled back to {good}"},
    }
    result, stays = decide(furnished)
    assert result.success
    assert stays.data_version == back.data_version, "it is barred until it is allowed"
    assert "the model is barred" in stays.metadata["decision"]
    result, allowed = decide(furnished, allow="latest")
    assert result.success
    assert allowed.metadata["model_version"] == better
    assert allowed.data_version == promoted.data_version

    outcomes = [one.outcome for one in champion_history.rulings(furnished.instance)]
    assert outcomes == [
        "promoted", "refused", "rolled back", "promoted", "refused", "refused", "promoted",
    ]  # fmt: skip


def test_what_tags_ask_for_and_cannot_be_fails_with_a_reason(furnished: House) -> None:
    before = furnished.made("champion_model")
    for tags, reason in (
        ({"roll_back": "previous"}, "cannot roll back to 'previous'; the earlier champions are"),
        ({"roll_back": "0123"}, "cannot roll back to '0123'"),
        ({"roll_back": ""}, "cannot roll back to ''"),
        ({"roll_back": before.metadata["model_version"][:9]}, "is in service already"),
        ({"allow": "latest"}, "cannot allow 'latest'; the barred models are none"),
    ):
        result, after = decide(furnished, **tags)
        assert not result.success
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert reason in str(failure.step_failure_data)
        assert after == before


def test_a_champion_file_that_is_gone_comes_back_as_it_was(furnished: House) -> None:
    before = furnished.made("champion_model")
    before.path.unlink()
    result, after = decide(furnished)
    assert result.success
    assert (after.data_version, after.path) == (before.data_version, before.path)
    assert after.path.is_file()
    assert after.metadata["decision"] == "stays: the model is the champion already"


def test_a_model_of_another_split_is_compared_after_fitting_the_champions_params_anew(
    furnished: House, params: Callable[[str], str]
) -> None:
    other = "[split]\nrandom_state = 7\n[model]\nrandom_state = 1\n"
    assert furnished.materialize(
        "key:train_set+ or key:test_set", {"MNIST_PARAMS": params(other)}
    ).success
    decision = furnished.made("champion_model").metadata["decision"]
    assert decision.startswith("promoted: ")
    assert "its params fitted anew" in decision


def test_a_champion_whose_file_is_gone_is_not_compared(
    furnished: House, params: Callable[[str], str]
) -> None:
    furnished.made("sgd_model").path.unlink()
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, other).success
    decision = furnished.made("champion_model").metadata["decision"]
    assert "not compared: the champion's file cannot be read" in decision


def test_a_model_and_training_rows_of_different_splits_are_not_decided_on(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.made("champion_model")
    split = {"MNIST_PARAMS": params("[split]\nrandom_state = 7\n")}
    assert furnished.materialize("train_set", split).success
    result, after = decide(furnished)
    assert not result.success
    assert after == before
    assert not furnished.check("champion_model", "only_training_rows").passed


def test_the_command_line_shows_rolls_back_and_allows(
    furnished: House, params: Callable[[str], str]
) -> None:
    good = furnished.made("sgd_model").data_version
    [only] = json.loads(furnished.cli("champion", "--json").stdout)["history"]
    assert (only["outcome"], only["champion"]["model_version"]) == ("promoted", good)
    refused = furnished.cli("champion", "--rollback", "--json")
    assert refused.returncode == 2
    refusal = json.loads(refused.stdout)
    assert "the earlier champions are none" in refusal["error"]
    assert refusal["model_version"] == good, "what stands is told all the same"
    assert furnished.cli("champion", "--rollback=").returncode == 2

    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize("key:sgd_model+", other).success
    newer = furnished.made("sgd_model").data_version
    shown = furnished.cli("champion", "--rollback", good[:8])
    assert shown.returncode == 0, shown.stderr
    assert f"In service: {good}." in shown.stdout
    assert f"Barred: {newer} (rolled back to {good})." in shown.stdout
    run = furnished.instance.get_runs(limit=1)[0]
    assert run.tags[champion_history.ROLL_BACK] == good, (
        "a real run, and what it did is in its tags"
    )

    again = furnished.cli("champion", "--rollback")
    assert again.returncode == 2
    assert f"{newer} (barred: allow it first)" in again.stderr

    document = json.loads(furnished.cli("champion", "--allow", "--json").stdout)
    assert (document["model_version"], document["barred"]) == (newer, {})
    assert [one["outcome"] for one in document["history"]] == [
        "promoted", "rolled back", "promoted", "promoted",
    ]  # fmt: skip
    both = furnished.cli("champion", "--allow", "--rollback", "--json")
    assert both.returncode == 2


def test_a_rollback_while_a_model_is_judged_is_not_undone(
    furnished: House, params: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = furnished.made("sgd_model").data_version
    first = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, first).success
    left = furnished.made("sgd_model").data_version
    rival_of = gate.rival_of

    def slow(*args: Any) -> Rival:
        monkeypatch.setattr(gate, "rival_of", rival_of)
        result, _ = decide(furnished, roll_back=good)
        assert result.success
        return rival_of(*args)

    monkeypatch.setattr(gate, "rival_of", slow)
    second = {"MNIST_PARAMS": params("[model]\nrandom_state = 2\n")}
    assert furnished.materialize(DECIDED, second).success
    candidate = furnished.made("sgd_model").data_version
    after = furnished.made("champion_model")
    champion = json.loads(after.path.read_bytes())
    assert champion["model_version"] == good
    assert set(champion["barred"]) == {left, candidate}
    assert "the model is barred" in after.metadata["decision"]


def test_a_refused_model_is_not_barred_by_a_rollback(
    furnished: House, params: Callable[[str], str], swapped: Callable[[], None]
) -> None:
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, other).success
    left = furnished.made("sgd_model").data_version
    swapped()
    assert furnished.materialize(DECIDED).success
    _, after = decide(furnished, roll_back="previous")
    assert set(json.loads(after.path.read_bytes())["barred"]) == {left}


def test_there_is_no_way_back_to_a_model_whose_file_is_gone(
    furnished: House, params: Callable[[str], str]
) -> None:
    first = furnished.made("sgd_model")
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, other).success
    before = furnished.made("champion_model")
    first.path.unlink()
    result, after = decide(furnished, roll_back="previous")
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert str(first.path) in str(failure.step_failure_data)
    assert after == before


def test_before_anything_is_decided_there_is_no_champion(house: House) -> None:
    found = house.cli("champion", "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout) == {"model_version": None, "barred": {}, "history": []}
    assert "Nothing was decided yet" in house.cli("champion").stdout


def test_a_champion_of_long_ago_is_not_forgotten(
    furnished: House, swapped: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = furnished.made("sgd_model")
    swapped()
    assert furnished.materialize(DECIDED).success
    monkeypatch.setattr(retention, "RUN_DAYS", -1)
    monkeypatch.setattr(retention, "RUN_MATERIALIZATIONS", 1)
    graph = build_definitions(furnished.settings()).resolve_asset_graph()
    retention.prune(furnished.instance, graph.get_all_asset_keys())
    events = furnished.instance.fetch_materializations(champion_history.MODEL, limit=10).records
    kept = {
        event.asset_materialization.tags["dagster/data_version"]
        for event in events
        if event.asset_materialization and event.asset_materialization.tags
    }
    assert champion.data_version in kept
