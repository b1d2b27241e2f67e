"""The assets on a real instance: what is made, what is read, and what is refused."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mnist_pipeline.incremental.io_manager import ArtifactIOManager

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.incremental.store import SUMS
from mnist_pipeline_tests.conftest import House, Materialized

ASSETS = {
    "raw_mnist": "mnist_5k.csv.gz",
    "train_set": "train_set.parquet",
    "test_set": "test_set.parquet",
    "sgd_model": "sgd_model.skops",
    "predictions": "predictions.parquet",
    "evaluation": "evaluation.json",
    "champion_model": "champion_model.json",
    "report": "report.html",
}

UPSTREAM = {
    "raw_mnist": set(),
    "train_set": {"raw_mnist"},
    "test_set": {"raw_mnist"},
    "sgd_model": {"train_set"},
    "predictions": {"sgd_model", "test_set"},
    "evaluation": {"predictions"},
    "champion_model": {"sgd_model", "train_set", "evaluation"},
    "report": {"train_set", "test_set", "sgd_model", "predictions", "evaluation", "champion_model"},
}


def error(result: dg.ExecuteInProcessResult) -> str:
    """What the run's failed steps say to a person."""
    return "\n".join(
        event.step_failure_data.user_failure_data.description or ""
        for event in result.filter_events(lambda event: event.is_step_failure)
        if event.step_failure_data.user_failure_data
    )


def test_the_asset_graph_is_that_of_the_design(house: House) -> None:
    graph = build_definitions(house.settings()).resolve_asset_graph()
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == UPSTREAM


def test_every_asset_says_in_the_ui_what_it_is_and_whose(house: House) -> None:
    graph = build_definitions(house.settings()).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.owners == ["team:mnist-pipeline"]
        assert node.kinds
        assert node.group_name in {"source", "digits", "model", "evaluation"}
        assert all(graph.get(check).description for check in node.check_keys)


def test_a_full_run_publishes_every_asset_at_its_place_with_its_digests(house: House) -> None:
    assert house.materialize().success
    for asset, filename in ASSETS.items():
        made = house.made(asset)
        assert made.path.name == filename
        assert made.metadata["path"] == str(made.path)
        assert made.metadata["size_bytes"] == made.path.stat().st_size
        assert made.metadata["sha256"] in (made.path.parent / SUMS).read_text()


def test_what_the_ui_plots_and_shows_is_in_the_metadata(furnished: House) -> None:
    train, evaluation = furnished.made("train_set"), furnished.made("evaluation")
    assert train.metadata["dagster/row_count"] == 4000
    assert [record.data["count"] for record in train.metadata["class_balance"].records] == [
        389, 395, 395, 415, 406, 402, 402, 388, 419, 389,
    ]  # fmt: skip
    assert evaluation.metadata["accuracy"] == pytest.approx(0.975, abs=0.01)
    assert evaluation.metadata["confusion_matrix"].startswith("![confusion matrix](data:image/png")
    assert len(evaluation.metadata["confusion_matrix"]) < 60_000
    graph = build_definitions(furnished.settings()).resolve_asset_graph()
    schema = graph.get(dg.AssetKey("train_set")).metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns[:2]] == ["row_id", "pixel1"]
    assert len(schema.columns) == 786


def test_the_same_inputs_give_the_same_versions_again_and_are_kept_once(furnished: House) -> None:
    before = furnished.versions()
    assert set(before) == set(ASSETS)
    assert furnished.materialize().success
    assert furnished.versions() == before
    for asset in ASSETS:
        assert [path.name for path in (furnished.folder / asset).iterdir()] == [before[asset]]


@pytest.mark.parametrize("split", ["train_set", "test_set"])
def test_one_split_is_made_without_the_other(split: str, house: House) -> None:
    assert house.materialize(f"key:raw_mnist or key:{split}").success
    assert set(house.versions()) == {"raw_mnist", split}


def test_every_version_recorded_as_an_input_is_what_was_read(furnished: House) -> None:
    versions = furnished.versions()
    for asset, parents in UPSTREAM.items():
        tags = furnished.made(asset).tags
        for parent in parents:
            assert tags[f"dagster/input_data_version/{parent}"] == versions[parent]


def test_a_version_published_after_the_step_began_is_not_what_it_reads(
    furnished: House, params: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    began_with = furnished.made("train_set")
    other_split = params("[split]\nrandom_state = 7\n")
    load_input = ArtifactIOManager.load_input

    def late(self: ArtifactIOManager, context: dg.InputContext) -> Any:
        monkeypatch.undo()
        published = furnished.cli(
            "run", "--select", "train_set", variables={"MNIST_PARAMS": other_split}
        )
        assert published.returncode == 0, published.stderr
        return load_input(self, context)

    monkeypatch.setattr(ArtifactIOManager, "load_input", late)
    assert furnished.materialize("sgd_model").success
    newest = furnished.made("train_set")
    assert newest.data_version != began_with.data_version
    model = furnished.made("sgd_model")
    assert model.tags["dagster/input_data_version/train_set"] == began_with.data_version
    assert furnished.value("sgd_model").origin.random_state == 42


def state(house: House) -> dict[str, Materialized]:
    return {asset: house.made(asset) for asset in ASSETS}


def test_an_evaluation_that_is_not_plausible_is_refused_and_everything_stays_as_it_was(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = state(furnished)
    demanding = params("[evaluation]\nleast_accuracy = 0.999\n[model]\nalpha = 0.001\n")
    for _ in range(2):
        result = furnished.materialize("key:sgd_model+", {"MNIST_PARAMS": demanding})
        assert not result.success
        assert "evaluation is refused and not published" in error(result)
        assert "at least 0.9990 is plausible" in error(result)
    for asset in ("evaluation", "champion_model", "report"):
        assert furnished.made(asset) == before[asset]
        assert [path.name for path in (furnished.folder / asset).iterdir()] == [
            before[asset].data_version
        ]
    check = furnished.check("evaluation", "plausible")
    assert not check.passed
    assert check.metadata["least_accuracy"].value == 0.999
    # what was judged was never materialized: the version before it is not to blame
    assert check.target_materialization_data is None


def test_a_check_is_heard_again_with_the_params_of_the_day(
    furnished: House, params: Callable[[str], str]
) -> None:
    made = furnished.made("evaluation")
    check = furnished.check("evaluation", "plausible")
    assert check.passed
    assert check.target_materialization_data is not None
    assert check.target_materialization_data.storage_id == made.storage_id
    assert furnished.materialize(
        "evaluation", {"MNIST_PARAMS": params("[evaluation]\nleast_accuracy = 0.4\n")}
    ).success
    again = furnished.check("evaluation", "plausible")
    assert again.metadata["least_accuracy"].value == 0.4
    assert again.target_materialization_data is not None
    assert again.target_materialization_data.storage_id == furnished.made("evaluation").storage_id


def test_a_version_that_a_blocking_check_refused_is_never_an_input(furnished: House) -> None:
    sound = False

    @dg.asset_check(asset="train_set", blocking=True)
    def by_hand(train_set: Digits) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=sound and len(train_set) == 4000)

    model = furnished.made("sgd_model")
    assert not furnished.materialize("train_set", more_checks=[by_hand]).success
    for _ in range(2):
        result = furnished.materialize("sgd_model", more_checks=[by_hand])
        assert not result.success
        assert "was refused by by_hand and is never an input" in error(result)
        assert furnished.made("sgd_model") == model
        # the same version, materialized again and not judged again, is no better
        assert furnished.materialize("train_set").success
    sound = True
    assert furnished.materialize("train_set", more_checks=[by_hand]).success
    assert furnished.materialize("sgd_model", more_checks=[by_hand]).success


def test_a_materialization_that_was_only_reported_is_no_input(furnished: House) -> None:
    for tags in ({}, {"who": "me"}, {"dagster/data_version": "1"}):
        reported = dg.AssetMaterialization("train_set", tags=tags)
        furnished.instance.report_runless_asset_event(reported)
        result = furnished.materialize("sgd_model")
        assert "was not made by this pipeline" in error(result)
        assert "materialize train_set" in error(result)
    assert furnished.materialize("key:train_set or key:sgd_model").success


def test_a_refusal_holds_however_many_runs_came_after_it(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset_check(asset="train_set", blocking=True)
    def by_hand() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    assert not furnished.materialize("train_set", more_checks=[by_hand]).success
    furnished.made("raw_mnist").path.unlink()
    for _ in range(30):  # planned, and never judged: their input is gone
        assert not furnished.materialize("train_set", more_checks=[by_hand]).success
    result = furnished.materialize("sgd_model", more_checks=[by_hand])
    assert "was refused by by_hand" in error(result)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "test_set is gone from the store: .*Materialize test_set"),
        (lambda path: path.write_bytes(b"PAR1"), "test_set is damaged: .*Materialize test_set"),
    ],
)
def test_an_input_that_is_gone_or_damaged_is_named_and_made_again_by_a_click(
    harm: Callable[[Path], object], message: str, furnished: House
) -> None:
    test_set, predictions = furnished.made("test_set"), furnished.made("predictions")
    whole = test_set.path.read_bytes()
    harm(test_set.path)
    result = furnished.materialize("predictions")
    assert not result.success
    assert re.search(message, error(result))
    assert furnished.made("predictions") == predictions
    assert furnished.materialize("test_set").success
    assert test_set.path.read_bytes() == whole
    assert furnished.materialize("predictions").success
    assert furnished.made("predictions").data_version == predictions.data_version


def test_an_input_that_was_never_made_is_named(house: House) -> None:
    result = house.materialize("train_set")
    assert "raw_mnist was never materialized: materialize raw_mnist first" in error(result)


def test_predictions_of_a_model_fitted_on_another_split_are_refused(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.made("predictions")
    other = params("[split]\nrandom_state = 7\n")
    result = furnished.materialize("key:test_set or key:predictions", {"MNIST_PARAMS": other})
    assert "predictions is refused" in error(result)
    assert "the model was fitted on another split (random_state differ)" in error(result)
    assert furnished.made("predictions") == before


def test_a_champion_is_not_decided_by_the_evaluation_of_another_model(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.made("champion_model")
    other = params("[model]\nalpha = 0.01\n")
    result = furnished.materialize("key:sgd_model or key:champion_model", {"MNIST_PARAMS": other})
    assert "champion_model is refused" in error(result)
    assert "materialize predictions and evaluation first" in error(result)
    assert furnished.made("champion_model") == before
    report = furnished.materialize("report")
    assert "report is refused" in error(report)


def test_old_materializations_keep_pointing_at_what_they_made(
    furnished: House, params: Callable[[str], str]
) -> None:
    old = furnished.made("sgd_model")
    bytes_then = old.path.read_bytes()
    other = params("[model]\nalpha = 0.01\n")
    assert furnished.materialize("sgd_model", {"MNIST_PARAMS": other}).success
    assert furnished.made("sgd_model").path != old.path
    assert old.path.read_bytes() == bytes_then


@pytest.mark.parametrize("asset", ["train_set", "sgd_model", "evaluation", "report"])
def test_a_planted_artifact_is_not_taken_for_what_a_step_makes(
    asset: str, furnished: House
) -> None:
    before = furnished.made(asset)
    whole = before.path.read_bytes()
    planted = b"\xff planted"
    before.path.write_bytes(planted)
    sums = f"{hashlib.sha256(planted).hexdigest()}  {before.path.name}\n"
    (before.path.parent / SUMS).write_text(sums)
    assert furnished.materialize(f"key:{asset}").success
    made = furnished.made(asset)
    assert made.data_version == before.data_version
    assert made.metadata["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert furnished.value(asset).data_version == made.data_version
    aside = made.path.parent.with_name(f"{made.data_version}.damaged-1")
    assert (aside / made.path.name).read_bytes() == planted
    # models are encoded anew; the others come out byte for byte
    assert asset in {"sgd_model", "report"} or made.path.read_bytes() == whole
