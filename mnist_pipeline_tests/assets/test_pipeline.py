"""The assets on a real instance: what is made, what is read, and what is refused."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.results import REUSED_FROM
from mnist_pipeline.incremental.steps import DETERMINISTIC, Asset, Result
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

UPSTREAM: dict[str, set[str]] = {
    "raw_mnist": set(),
    "train_set": {"raw_mnist"},
    "test_set": {"raw_mnist"},
    "sgd_model": {"train_set"},
    "predictions": {"sgd_model", "test_set"},
    "evaluation": {"predictions"},
    "champion_model": {"evaluation"},
    "report": {"evaluation", "champion_model"},
}
"""The edges: each asset's direct inputs."""

NEVER_REUSED = {"raw_mnist", "champion_model"}


def edges(house: House) -> dict[str, set[str]]:
    graph = house.pipeline().definitions.resolve_asset_graph()
    return {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }


def longest(found: Mapping[str, set[str]], start: str, end: str) -> int:
    """The number of edges of the longest path, or a negative number where there is none."""
    if start == end:
        return 0
    return max((longest(found, start, parent) + 1 for parent in found[end]), default=-99)


def test_the_asset_graph_is_that_of_the_design(house: House) -> None:
    assert edges(house) == UPSTREAM


def test_no_input_reaches_an_asset_by_a_path_of_three_or_more_edges_too(house: House) -> None:
    found = edges(house)
    for asset, parents in found.items():
        for parent in parents:
            assert 1 <= longest(found, parent, asset) < 3, f"{parent} -> {asset}"


def test_the_first_fifty_characters_of_a_description_are_plain_text(house: House) -> None:
    graph = house.pipeline().definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        shown = (node.description or "").splitlines()[0]
        assert shown
        assert not set(shown[:50]) & set("`*_[]")
        assert node.kinds
        assert all(graph.get(check).description for check in node.check_keys)


def test_each_group_is_a_stage_no_edge_goes_back_to_an_earlier_one(house: House) -> None:
    stages = ["digits", "model", "evaluation", "release"]
    graph = house.pipeline().definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        for parent in node.parent_keys:
            assert stages.index(graph.get(parent).group_name) <= stages.index(node.group_name)


def test_the_page_of_a_resource_shows_its_type_a_description_and_its_value(house: House) -> None:
    resources = dict(house.pipeline().definitions.resources or {})
    for name, one in resources.items():
        assert "lambda" not in one.resource_fn.__name__
        description = one.description.partition("\n")[0]
        assert description.endswith(".")
        assert description != f"{name}."
    assert resources["io_manager"].resource_fn.__name__ == "Engine"
    assert resources["split_params"].resource_fn.__name__ == "SplitParams"
    assert '"random_state": 42' in resources["split_params"].description
    assert str(house.folder) in resources["store"].description


def test_a_full_run_publishes_every_asset_at_its_place_with_its_digests(house: House) -> None:
    assert house.materialize().success
    for asset, filename in ASSETS.items():
        made = house.made(asset)
        assert made.path.name == filename
        assert made.metadata["path"] == str(made.path)
        assert made.metadata["size_bytes"] == made.path.stat().st_size
        sha256 = hashlib.sha256(made.path.read_bytes()).hexdigest()
        assert made.metadata["sha256"] == made.path.parent.name == sha256


def test_what_the_ui_plots_and_shows_is_in_the_metadata(furnished: House) -> None:
    train, evaluation = furnished.made("train_set"), furnished.made("evaluation")
    assert train.metadata["dagster/row_count"] == 4000
    assert [record.data["count"] for record in train.metadata["class_balance"].records] == [
        389, 395, 395, 415, 406, 402, 402, 388, 419, 389,
    ]  # fmt: skip
    assert evaluation.metadata["accuracy"] == pytest.approx(0.975, abs=0.01)
    assert evaluation.metadata["confusion_matrix"].startswith("![confusion matrix](data:image/png")
    assert len(evaluation.metadata["confusion_matrix"]) < 60_000
    schema = (
        furnished.pipeline()
        .definitions.resolve_asset_graph()
        .get(dg.AssetKey("train_set"))
        .metadata["dagster/column_schema"]
    )
    assert [column.name for column in schema.columns] == ["row_id", "pixel1 ... pixel784", "class"]
    assert all(column.description for column in schema.columns)


def test_what_did_not_change_is_reused_however_much_is_selected(furnished: House) -> None:
    before = {asset: furnished.made(asset) for asset in ASSETS}
    graph = furnished.pipeline().definitions.resolve_asset_graph()
    done = furnished.materialize()
    assert done.success
    assert set(done.computed) == NEVER_REUSED
    assert set(done.reused) == set(ASSETS) - NEVER_REUSED
    for asset, then in before.items():
        now = furnished.made(asset)
        assert (now.data_version, now.path) == (then.data_version, then.path)
        assert now.storage_id > then.storage_id
        reused_from = now.metadata.pop(REUSED_FROM, None)
        if asset in done.reused:
            # the folder is a copy
            unchanged = then.metadata | {"path": str(then.path)}
            assert now.metadata == unchanged, "plots go on as they were"
            assert furnished.instance.get_run_by_id(reused_from) is not None
        else:
            assert reused_from is None
        for check in graph.get(dg.AssetKey(asset)).check_keys:
            result = furnished.check(asset, check.name)
            assert result.target_materialization_data is not None
            assert result.target_materialization_data.storage_id == now.storage_id


def test_computed_again_everything_has_the_same_versions_and_is_kept_once(
    furnished: House,
) -> None:
    before = furnished.versions()
    assert set(before) == set(ASSETS)
    done = furnished.materialize(force=True)
    assert (set(done.computed), done.reused) == (set(ASSETS), [])
    assert furnished.versions() == before
    for asset in set(ASSETS) - NEVER_REUSED:
        assert furnished.check(asset, DETERMINISTIC).passed
        # the archive of a model names times, a report names its run
        if asset not in {"sgd_model", "report"}:
            [folder] = (furnished.folder / asset).iterdir()
            assert folder.name == furnished.made(asset).metadata["sha256"]


@pytest.mark.parametrize("split", ["train_set", "test_set"])
def test_one_split_is_made_without_the_other(split: str, house: House) -> None:
    assert house.materialize(f"key:raw_mnist or key:{split}").success
    assert set(house.versions()) == {"raw_mnist", split}


def test_every_version_recorded_as_an_input_is_what_was_read(furnished: House) -> None:
    versions, prefix = furnished.versions(), "dagster/input_data_version/"
    for asset, parents in UPSTREAM.items():
        recorded = {
            tag.removeprefix(prefix): version
            for tag, version in furnished.made(asset).tags.items()
            if tag.startswith(prefix)
        }
        assert recorded == {parent: versions[parent] for parent in parents}


def test_a_version_published_after_the_step_began_is_not_what_it_reads(
    furnished: House, params: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    began_with = furnished.made("train_set")
    other_split = params("[split]\nrandom_state = 7\n")
    read = Codec.read

    def late(codec: Codec[Any], *arguments: Any) -> Any:
        monkeypatch.undo()
        published = furnished.cli(
            "run", "--select", "train_set", variables={"MNIST_PARAMS": other_split}
        )
        assert published.returncode == 0, published.stderr
        return read(codec, *arguments)

    monkeypatch.setattr(Codec, "read", late)
    assert furnished.materialize("sgd_model", force=True).success
    newest = furnished.made("train_set")
    assert newest.data_version != began_with.data_version
    model = furnished.made("sgd_model")
    assert model.tags["dagster/input_data_version/train_set"] == began_with.data_version
    assert furnished.value("sgd_model").origin.random_state == 42


def test_what_is_further_upstream_is_what_the_direct_inputs_were_computed_from(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.versions()
    other = {"MNIST_PARAMS": params("[split]\nrandom_state = 7\n[model]\nalpha = 0.01\n")}
    newer = furnished.materialize("key:train_set or key:test_set or key:sgd_model", other)
    assert newer.success
    assert furnished.materialize("key:champion_model or key:report", force=True).success
    after = furnished.versions()
    assert {asset for asset in ASSETS if before[asset] != after[asset]} == {
        "train_set", "test_set", "sgd_model",
    }  # fmt: skip
    assert furnished.made("champion_model").metadata["candidate"] == before["sgd_model"]


def test_what_is_gone_further_upstream_is_named_by_the_step_that_reads_it(
    furnished: House,
) -> None:
    before = furnished.made("report")
    furnished.made("test_set").path.unlink()
    failed = furnished.materialize("report", force=True)
    assert re.search(
        "test_set, which .* is gone: materialize test_set and what is", str(failed.error)
    )
    assert furnished.made("report") == before


def changed_by(asset: Asset, change: Callable[[Any], Any]) -> Asset:
    """The same asset, whose result is changed before it is published."""

    @functools.wraps(asset.step)
    def step(**read: Any) -> Result:
        result: Result = asset.step(**read)
        return dataclasses.replace(result, value=change(result.value))

    return dataclasses.replace(asset, step=step)


def test_two_test_sets_with_equal_predictions_and_metrics_never_share_a_report(
    house: House, params: Callable[[str], str]
) -> None:
    # a model of pixels knows nothing of the corner, which is empty in every training digit
    plain = {"MNIST_PARAMS": params('[model]\npreset = "scaled"\nmax_iter = 3\n')}
    assert house.materialize(variables=plain).success
    before = {asset: house.made(asset) for asset in ASSETS}
    numbers, answers = house.value("evaluation"), house.value("predictions")

    def inked(digits: Digits) -> Digits:
        pixels = digits.pixels.copy()
        pixels[:, 0] = 255
        return dataclasses.replace(digits, pixels=pixels)

    every = [
        changed_by(one, inked) if one.name == "test_set" else one
        for one in house.pipeline(plain).assets
    ]
    assert house.materialize("test_set", plain, assets=every, force=True).success
    done = house.materialize("key:predictions+", plain)
    assert done.computed == ["predictions", "evaluation", "champion_model", "report"]

    again = house.value("predictions")
    assert (again.scores == answers.scores).all()
    assert (again.prediction == answers.prediction).all()
    named = {"predictions_version"}
    assert {k: v for k, v in house.value("evaluation").document.items() if k not in named} == {
        k: v for k, v in numbers.document.items() if k not in named
    }
    for asset in ("predictions", "evaluation", "report"):
        assert house.made(asset).data_version != before[asset].data_version
    assert house.made("report").path.read_bytes() != before["report"].path.read_bytes()


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
        assert "evaluation is refused and not published" in str(result.error)
        assert "at least 0.9990 is plausible" in str(result.error)
    for asset in ("evaluation", "champion_model", "report"):
        assert furnished.made(asset) == before[asset]
        [folder] = (furnished.folder / asset).iterdir()
        assert folder == before[asset].path.parent
    check = furnished.check("evaluation", "plausible")
    assert not check.passed
    assert check.metadata["least_accuracy"].value == 0.999
    # what was judged was never materialized: the version before it is not to blame
    assert check.target_materialization_data is None


def test_a_check_of_changed_params_is_evaluated_again(
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
    assert not furnished.materialize("train_set", checks=[by_hand]).success
    for _ in range(2):
        result = furnished.materialize("sgd_model", checks=[by_hand])
        assert not result.success
        assert "was refused by by_hand and is never an input" in str(result.error)
        assert furnished.made("sgd_model") == model
        # the same version, materialized again and not judged again, is no better
        assert furnished.materialize("train_set").success
    sound = True
    assert furnished.materialize("train_set", checks=[by_hand]).success
    assert furnished.materialize("sgd_model", checks=[by_hand]).success


def test_a_materialization_that_was_only_reported_is_no_input(furnished: House) -> None:
    for tags in ({}, {"who": "me"}, {"dagster/data_version": "1"}):
        reported = dg.AssetMaterialization("train_set", tags=tags)
        furnished.instance.report_runless_asset_event(reported)
        result = furnished.materialize("sgd_model")
        assert "was not made by this pipeline" in str(result.error)
        assert "materialize train_set" in str(result.error)
    assert furnished.materialize("key:train_set or key:sgd_model").success


def test_a_refusal_holds_however_many_runs_came_after_it(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset_check(asset="train_set", blocking=True)
    def by_hand() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    assert not furnished.materialize("train_set", checks=[by_hand]).success
    furnished.made("raw_mnist").path.unlink()
    for _ in range(12):  # planned, and never judged: their input is gone
        assert not furnished.materialize("train_set", checks=[by_hand]).success
    result = furnished.materialize("sgd_model", checks=[by_hand])
    assert "was refused by by_hand" in str(result.error)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "test_set is missing from the store: .*Materialize test_set"),
        (lambda path: path.write_bytes(b"PAR1"), "test_set is damaged: .*Materialize test_set"),
    ],
)
def test_an_input_that_is_gone_or_damaged_is_named_and_made_again_by_a_click(
    harm: Callable[[Path], object], message: str, furnished: House
) -> None:
    test_set, predictions = furnished.made("test_set"), furnished.made("predictions")
    whole = test_set.path.read_bytes()
    harm(test_set.path)
    result = furnished.materialize("predictions", force=True)
    assert not result.success
    assert re.search(message, str(result.error))
    assert furnished.made("predictions") == predictions
    assert furnished.materialize("test_set").success
    assert test_set.path.read_bytes() == whole
    assert furnished.materialize("predictions", force=True).success
    assert furnished.made("predictions").data_version == predictions.data_version


def test_an_input_that_was_never_made_is_named(house: House) -> None:
    result = house.materialize("train_set")
    assert "raw_mnist was never materialized: materialize raw_mnist first" in str(result.error)


def test_predictions_of_a_model_fitted_on_another_split_are_refused(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.made("predictions")
    other = params("[split]\nrandom_state = 7\n")
    result = furnished.materialize("key:test_set or key:predictions", {"MNIST_PARAMS": other})
    assert "predictions is refused" in str(result.error)
    assert "the model was fitted on another split (random_state differ)" in str(result.error)
    assert furnished.made("predictions") == before


def test_a_champion_is_decided_on_the_model_that_the_evaluation_is_of(
    furnished: House, params: Callable[[str], str]
) -> None:
    before = furnished.made("champion_model")
    other = {"MNIST_PARAMS": params("[model]\nalpha = 0.01\n")}
    assert furnished.materialize("key:sgd_model or key:champion_model", other).success
    after = furnished.made("champion_model")
    assert furnished.made("sgd_model").data_version != after.metadata["candidate"]
    assert after.metadata["candidate"] == before.metadata["candidate"]
    assert after.data_version == before.data_version


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
    planted = b"\xff planted"
    before.path.write_bytes(planted)
    done = furnished.materialize(f"key:{asset}")
    assert (done.computed, done.reused) == ([asset], [])
    made = furnished.made(asset)
    assert made.data_version == before.data_version
    assert made.metadata["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert furnished.value(asset).data_version == made.data_version
