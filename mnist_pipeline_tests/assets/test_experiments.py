"""Variants as assets: fitted, compared, promoted, kept and cleared."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.assets import experiments
from mnist_pipeline.assets.experiments import LEADERBOARD, key_of
from mnist_pipeline.digits.evaluation.leaderboard import CHAMPION, MODEL, Leaderboard
from mnist_pipeline_tests.assets.test_pipeline import ASSETS
from mnist_pipeline_tests.conftest import House, once
from mnist_pipeline_tests.support.clones import VARIANTS, Forked


def leaderboard(folder: Path) -> Leaderboard:
    """The newest leaderboard of a data folder."""
    files = sorted(folder.glob("leaderboard/*/leaderboard.json"), key=lambda f: f.stat().st_mtime)
    return Leaderboard.from_json(files[-1].read_bytes())


@pytest.fixture(scope="module")
def once_compared(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, _furnished: Path
) -> Path:
    def make(folder: Path) -> None:
        forked = Forked.make(folder)
        shutil.copytree(_furnished, forked.data, dirs_exist_ok=True)
        with (folder / "params.toml").open("a") as file:
            file.write(VARIANTS)
        (folder / "compared.json").write_text(json.dumps(forked.json("compare")))

    return once(tmp_path_factory, worker_id, "compared", make)


@pytest.fixture
def compared(once_compared: Path, tmp_path: Path) -> Forked:
    """A folder in which everything was made once, and three variants were compared."""
    shutil.copytree(once_compared, tmp_path / "compared")
    return Forked(tmp_path / "compared")


def refit(forked: Forked) -> dict[str, Any]:
    found: dict[str, Any] = forked.json("compare")
    return found


def test_experiments_are_in_a_job_of_their_own_and_in_no_other(
    house: House, params: Callable[[str], str]
) -> None:
    session = house.session({"MNIST_PARAMS": params("[variants.a]\n")})

    def of_job(name: str) -> set[str]:
        layer = session.pipeline.definitions.resolve_job_def(name).asset_layer
        return {key.to_user_string() for key in layer.executable_asset_keys}

    assert of_job("refresh") == of_job("recompute_all") == set(ASSETS)
    assert of_job("experiments") == {"candidate/a", "leaderboard"}
    assert session.select("group:experiments") == [key_of("a"), LEADERBOARD]
    assert {key.to_user_string() for key in session.select("*")} == set(ASSETS)
    everywhere = session.pipeline.definitions.resolve_asset_graph().get_all_asset_keys()
    assert everywhere - {dg.AssetKey(key) for key in ASSETS} == {key_of("a"), LEADERBOARD}
    without = house.pipeline().definitions.resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in without} == set(ASSETS)


def test_editing_a_variant_makes_only_its_candidate_stale_and_a_new_one_the_leaderboard(
    house: House, params: Callable[[str], str]
) -> None:
    def versions(text: str) -> dict[str, str | None]:
        graph = house.pipeline({"MNIST_PARAMS": params(text)}).definitions.resolve_asset_graph()
        keys = graph.get_all_asset_keys()
        return {key.to_user_string(): graph.get(key).code_version for key in keys}

    def changed(text: str) -> set[str]:
        after = versions(text)
        return {key for key, version in before.items() if version != after[key]}

    before = versions("[variants.a]\n[variants.c]\n")
    assert changed("[variants.a]\nalpha = 1.0\n[variants.c]\n") == {"candidate/a"}
    assert changed("[variants.a]\n[variants.c]\n[variants.b]\n") == {"leaderboard"}
    before = versions("")
    assert changed("[variants.a]\n") == set()


def test_compare_fits_what_is_not_fitted_and_makes_nothing_else_stale(
    compared: Forked, once_compared: Path
) -> None:
    first = json.loads((once_compared / "compared.json").read_text())
    assert first["fitted"] == ["small", "smooth", "poor"]
    assert [one["variant"] for one in first["entries"]][-1] == "poor"
    assert {one["variant"] for one in first["entries"]} == {*first["fitted"], MODEL, CHAMPION}
    champion = compared.json("champion")["model_version"]
    versions = {one["variant"]: one["model_version"] for one in first["entries"]}
    assert versions[MODEL] == versions[CHAMPION] == champion
    assert {one["status"] for one in compared.status().values()} == {"fresh"}
    assert set(compared.status()) == set(ASSETS)

    board = leaderboard(compared.data)
    assert [one.variant for one in board.entries] == [e["variant"] for e in first["entries"]]
    assert board.n_validation == 400
    for before, after in zip(board.entries, board.entries[1:], strict=False):
        assert (-before.accuracy, before.variant) < (-after.accuracy, after.variant)
    for one in board.entries:
        assert one.accuracy_interval[0] < one.accuracy < one.accuracy_interval[1]
        won = one.only_this_right - one.only_best_right
        assert won == round(400 * (one.accuracy - board.entries[0].accuracy))
    assert board.entries[-1].p_value < 0.001

    compared.edit("params.toml", "whitening = 0.1\n", "whitening = 0.2\n")
    with (compared.folder / "params.toml").open("a") as file:
        file.write("[variants.tutorial]\npreset = 'tutorial'\nmax_iter = 1\n")
    second = refit(compared)
    assert second["fitted"] == ["smooth", "tutorial"], "an edit is of one variant only"
    assert second["left_out"] == {"tutorial": "nothing was held out of its fit to compare it on"}
    assert refit(compared)["fitted"] == []
    assert {one["status"] for one in compared.status().values()} == {"fresh"}


def test_a_variant_that_fails_stops_no_other_and_is_left_out(compared: Forked) -> None:
    with (compared.folder / "params.toml").open("a") as file:
        file.write("[variants.more]\npreset = 'scaled'\nmax_iter = 2\n")
        file.write("[variants.wild]\npreset = 'scaled'\nalpha = 1e300\n")
        file.write("eta0 = 1e300\nlearning_rate = 'constant'\n")
    done = compared.cli("compare", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert "fitting 2 of 5 variants" in done.stderr
    assert "candidate/wild: SGDClassifier cannot fit with these params" in found["error"]
    assert found["fitted"] == ["more"]
    assert found["left_out"] == {"wild": experiments.NOT_FITTED}
    assert "more" in {one["variant"] for one in found["entries"]}


def test_a_promoted_variant_goes_through_the_gate_with_the_next_refresh(compared: Forked) -> None:
    file = compared.folder / "params.toml"
    champion = compared.json("champion")["model_version"]
    compared.json("promote", "poor")
    assert "sgd_model" in compared.json("refresh")["materialized"]
    assert compared.json("champion")["model_version"] == champion, "it was refused"
    best = next(one for one in leaderboard(compared.data).entries if "(" not in one.variant)
    compared.json("promote", best.variant)
    assert compared.json("champion")["model_version"] == champion, "nothing was refreshed"
    assert compared.cli("refresh").returncode == 0
    assert compared.json("champion")["model_version"] == best.model_version
    assert {one["status"] for one in compared.status().values()} == {"fresh"}
    report = Path(compared.status()["report"]["path"])
    assert f"{best.variant}</th>" in report.read_text(), "the page of a new model shows variants"

    # gc keeps what each variant's newest materialization points at, also of one that is gone
    text = file.read_text().replace("[variants.poor]", "[variants.renamed]")
    file.write_text(text)
    collected = compared.json("gc", "--keep", "1", "--no-dry-run")
    assert collected["undefined"] == ["candidate/poor"]
    assert "dagster asset wipe candidate/poor\n" in compared.cli("gc", "--keep", "1").stdout
    removed = {one["path"] for one in collected["removed"]}
    assert not [path for path in removed if "/candidate/" in path]
    assert len(list(compared.data.glob("candidate/*/*/candidate.skops"))) == 3

    # the chosen variant cannot be renamed without notice
    file.write_text(text.replace(f"[variants.{best.variant}]", "[variants.other]"))
    status = compared.cli("status")
    assert status.returncode == 2
    assert f"model.variant = '{best.variant}': there is no such variant" in status.stderr


@pytest.fixture
def compared_house(compared: Forked, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The same, in this process."""
    from mnist_pipeline_tests.conftest import open_house

    with open_house(compared.data, monkeypatch) as opened:
        opened.environment["MNIST_PARAMS"] = str(compared.folder / "params.toml")
        yield opened


def test_results_outlive_the_run_of_a_candidate_and_come_back_by_reuse(
    compared_house: House,
) -> None:
    session = compared_house.session()
    [newest] = session.instance.fetch_materializations(key_of("small"), limit=1).records
    session.instance.delete_run(newest.run_id)
    assert session.run([LEADERBOARD]).reused == ["leaderboard"]
    again = session.run([key_of("small")])
    assert (again.computed, again.reused) == ([], ["candidate/small"])


def test_a_candidate_whose_file_is_gone_is_left_out_until_it_is_fitted_again(
    compared_house: House,
) -> None:
    session = compared_house.session()
    [newest] = session.instance.fetch_materializations(key_of("small"), limit=1).records
    assert newest.asset_materialization is not None
    sha256 = str(newest.asset_materialization.metadata["sha256"].value)
    (compared_house.folder / "candidate" / "small" / sha256 / "candidate.skops").unlink()
    assert session.run([LEADERBOARD]).computed == ["leaderboard"]
    assert leaderboard(compared_house.folder).left_out == {"small": experiments.NOT_FITTED}
    assert session.run([key_of("small")]).computed == ["candidate/small"]
    assert session.run([LEADERBOARD]).reused == ["leaderboard"]


def test_a_variant_edited_and_edited_back_is_not_fitted_again(compared: Forked) -> None:
    compared.edit("params.toml", "max_iter = 5\n", "max_iter = 4\n")
    edited = refit(compared)
    assert edited["fitted"] == ["poor"]
    compared.edit("params.toml", "max_iter = 4\n", "max_iter = 5\n")
    back = refit(compared)
    assert (back["fitted"], back["left_out"]) == ([], {})
    first = json.loads((compared.folder / "compared.json").read_text())
    assert back["entries"] == first["entries"]


def test_an_asset_of_its_own_for_each_variant_of_the_params_file(
    house: House, params: Callable[[str], str]
) -> None:
    text = "[variants.b]\n[sweep]\nalpha = [0.1, 0.01]\n"
    graph = house.pipeline({"MNIST_PARAMS": params(text)}).definitions.resolve_asset_graph()
    found = {key.to_user_string() for key in graph.get_all_asset_keys()} - set(ASSETS)
    named = {"candidate/b", "candidate/alpha_0_1", "candidate/alpha_0_01"}
    assert found == named | {"leaderboard"}
