"""The champion as Dagster and the command line show it: refusals, promotions, the way back."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from mnist_pipeline.assets import champion_history
from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.data.validation import Parts
from mnist_pipeline.digits.model import training
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.incremental import retention
from mnist_pipeline.incremental.session import RunResult
from mnist_pipeline.incremental.steps import DETERMINISTIC
from mnist_pipeline_tests.conftest import House, Materialized, flip_a_byte, once, open_house
from mnist_pipeline_tests.support.openml_server import OpenML, serve
from mnist_pipeline_tests.support.processes import Processes
from mnist_pipeline_tests.support.webserver import until

DECIDED = "key:sgd_model or key:predictions or key:evaluation or key:champion_model"
"""From the model to the champion."""

WAITS = "another run computes champion_model: waiting for it"


@pytest.fixture
def swapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, models are fitted with the labels of 3 and 5 swapped."""

    def swap() -> None:
        fit = training.fit

        def deceived(
            params: ModelParams, parts: Parts, progress: Progress = silent
        ) -> TrainedModel:
            labels = parts.fitted.labels.copy()
            labels[parts.fitted.labels == 3], labels[parts.fitted.labels == 5] = 5, 3
            return fit(
                params,
                dataclasses.replace(parts, fitted=dataclasses.replace(parts.fitted, labels=labels)),
                progress,
            )

        monkeypatch.setattr(training, "fit", deceived)

    return swap


def decide(
    house: House, variables: dict[str, str] | None = None, **tags: str
) -> tuple[RunResult, Materialized]:
    """Run `champion_model`, with these tags of its history."""
    names = {
        "roll_back": champion_history.ROLL_BACK,
        "allow": champion_history.ALLOW,
        "accept": champion_history.ACCEPT,
    }
    tagged = {names[name]: value for name, value in tags.items()}
    result = house.materialize("champion_model", variables, tags=tagged)
    return result, house.made("champion_model")


@pytest.fixture
def images(tmp_path: Path, rows: list[bytes]) -> Path:
    """A picture of a real digit."""
    pixels = np.array(rows[0].split(b",")[:-1], np.uint8).reshape(28, 28)
    Image.fromarray(255 - pixels).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_a_bad_model_is_refused_a_good_one_promoted_and_a_rollback_returns(
    furnished: House,
    params: Callable[[str], str],
    swapped: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = furnished.made("champion_model")
    good = furnished.made("sgd_model").data_version
    assert json.loads(first.path.read_bytes()) == {"model_version": good, "blocked": {}}
    assert first.metadata["blocked"] == {}
    named = {name for name, value in first.metadata.items() if good in str(value)}
    assert named == {"candidate", "model_version"}, "no record beside what the page shows"

    fit = training.fit
    swapped()
    assert furnished.materialize(DECIDED, force=True).success, "a refusal is no failure"
    bad = furnished.made("sgd_model").data_version
    assert bad != good
    differs = furnished.check("sgd_model", DETERMINISTIC)
    assert not differs.passed, "other content from the same inputs, code and params is reported"
    assert differs.severity == dg.AssetCheckSeverity.WARN
    assert good in (differs.description or "")
    refused = furnished.made("champion_model")
    assert refused.storage_id > first.storage_id
    assert refused.data_version == first.data_version
    assert refused.metadata["model_version"] == good
    assert refused.metadata["candidate"] == bad
    assert refused.metadata["decision"].startswith("refused: ")
    check = furnished.check("champion_model", "is_champion")
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
    assert furnished.check("champion_model", "is_champion").passed

    result, back = decide(furnished, roll_back="previous")
    assert result.success
    assert back.metadata["decision"].endswith(f"rolled back from {better} to {good}")
    assert furnished.check("champion_model", "only_training_rows").passed, "asked all the same"
    assert json.loads(back.path.read_bytes()) == {
        "model_version": good,
        "blocked": {better: f"rolled back to {good}"},
    }
    result, stays = decide(furnished)
    assert result.success
    assert stays.data_version == back.data_version, "it is blocked until it is allowed"
    assert "the model is blocked" in stays.metadata["decision"]
    result, allowed = decide(furnished, allow="latest")
    assert result.success
    assert allowed.metadata["model_version"] == better
    assert allowed.data_version == promoted.data_version

    outcomes = [one.outcome for one in champion_history.decisions(furnished.instance)]
    assert outcomes == [
        "promoted", "refused", "rolled back", "promoted", "refused", "refused", "promoted",
    ]  # fmt: skip


def test_what_tags_ask_for_and_cannot_be_fails_with_a_reason(furnished: House) -> None:
    before = furnished.made("champion_model")
    for tags, reason in (
        ({"roll_back": "previous"}, "the earlier champions are none"),
        ({"roll_back": "0123"}, "cannot roll back to '0123'"),
        ({"roll_back": ""}, "cannot roll back to ''"),
        (
            {"roll_back": before.metadata["model_version"][:9]},
            f"the champion is {before.metadata['model_version']}",
        ),
        ({"allow": "latest"}, "cannot allow 'latest'; the blocked models are none"),
    ):
        result, after = decide(furnished, **tags)
        assert not result.success
        assert reason in str(result.error)
        assert after == before


def test_a_champion_file_that_is_gone_comes_back_as_it_was(furnished: House) -> None:
    before = furnished.made("champion_model")
    before.path.unlink()
    result, after = decide(furnished)
    assert result.success
    assert (after.data_version, after.path) == (before.data_version, before.path)
    assert after.path.is_file()
    assert after.metadata["decision"] == "stays: the model is the champion already"


def test_a_model_of_another_split_is_compared_on_rows_that_neither_was_fitted_on(
    furnished: House, params: Callable[[str], str]
) -> None:
    other = {"MNIST_PARAMS": params("[split]\nrandom_state = 7\n")}
    assert furnished.materialize("key:train_set+ or key:test_set", other).success
    made = furnished.made("champion_model").metadata
    assert made["decision"].startswith("promoted: ")
    assert 50 < made["compared_rows"] < made["validation_rows"] == 400
    assert f"of {made['compared_rows']} rows that neither was fitted on" in made["decision"]


@pytest.mark.parametrize("harm", [flip_a_byte, Path.unlink])
def test_a_champion_whose_file_is_damaged_is_computed_again_and_compared(
    harm: Callable[[Path], None], furnished: House, params: Callable[[str], str]
) -> None:
    champion = furnished.made("sgd_model")
    good = champion.path.read_bytes()
    harm(champion.path)
    # worse beyond chance, and above the floor
    bad = {"MNIST_PARAMS": params('[model]\npreset = "scaled"\nmax_iter = 1\n')}
    assert furnished.materialize(DECIDED, bad).success
    refused = furnished.made("champion_model").metadata
    assert refused["decision"].startswith("refused: significantly worse than the champion")
    assert refused["validation_accuracy"] > refused["floor"]
    assert refused["model_version"] == champion.data_version
    assert champion.path.read_bytes() == good, "the champion's file is restored"


@pytest.mark.parametrize("harm", [flip_a_byte, Path.unlink])
def test_a_lost_file_of_a_champion_that_is_not_the_newest_model_is_restored_by_refresh(
    harm: Callable[[Path], None], furnished: House, params: Callable[[str], str]
) -> None:
    champion = furnished.made("sgd_model")
    good = champion.path.read_bytes()
    bad = {"MNIST_PARAMS": params('[model]\npreset = "scaled"\nmax_iter = 1\n')}
    assert furnished.materialize(DECIDED, bad).success
    assert furnished.made("sgd_model").data_version != champion.data_version
    harm(champion.path)
    session = furnished.session(bad)
    states = {key.to_user_string(): one for key, one in session.status(verify=True).items()}
    gone = {name for name, one in states.items() if one.status in {"damaged", "missing"}}
    assert gone == {"champion_model"}
    assert str(champion.path) in states["champion_model"].causes[0]
    done = furnished.cli("predict", "nothing.png", variables=bad)
    assert "`mnist-pipeline refresh --verify` restores it" in done.stderr
    done = furnished.cli("refresh", "--verify", variables=bad)
    assert done.returncode == 0, done.stderr
    assert champion.path.read_bytes() == good


def test_if_the_champion_cannot_be_computed_again_nothing_is_promoted_without_a_persons_word(
    furnished: House, params: Callable[[str], str]
) -> None:
    champion = furnished.made("sgd_model")
    flip_a_byte(champion.path)
    other = {
        "MNIST_PARAMS": params('[model]\npreset = "scaled"\n[split]\nrandom_state = 7\n'),
    }
    furnished.made("train_set").path.unlink()
    assert furnished.materialize("key:raw_mnist+", other).success
    candidate = furnished.made("sgd_model").data_version
    refused = furnished.made("champion_model").metadata
    assert refused["model_version"] == champion.data_version
    assert refused["decision"].startswith("refused: the model cannot be compared with the champion")
    check = furnished.check("champion_model", "is_champion")
    assert not check.passed
    assert f"`mnist-pipeline champion --accept {candidate}`" in (check.description or "")

    environment = {"variables": other}
    runs = len(furnished.instance.get_runs())
    wrong = furnished.cli("champion", "--accept", "0123", **environment)
    assert wrong.returncode == 2
    assert f"cannot accept '0123'; the model refused last is {candidate}" in wrong.stderr
    assert len(furnished.instance.get_runs()) == runs, "nothing was run"
    accepted = furnished.cli("champion", "--accept", candidate[:8], "--json", **environment)
    assert accepted.returncode == 0, accepted.stderr
    document = json.loads(accepted.stdout)
    assert document["model_version"] == candidate
    assert "accepted by a person" in document["history"][0]["why"]
    assert furnished.cli("status", **environment).returncode == 0
    again = furnished.cli("champion", "--accept", candidate, **environment)
    assert again.returncode == 2
    assert "the newest decision refused no model. Decide on the newest model again" in again.stderr


def test_digits_that_are_not_mnist_never_replace_the_champion_without_a_persons_word(
    furnished: House, small_openml: OpenML, params: Callable[[str], str]
) -> None:
    """A well-formed file with a true md5 is served as OpenML's, and is not MNIST."""
    champion = furnished.made("sgd_model").data_version
    with serve(small_openml) as server:
        openml = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": server.url}
        openml["MNIST_PARAMS"] = params("[floor]\nopenml = 0.1\n")
        done = furnished.cli("run", variables=openml)
        assert done.returncode == 0, done.stderr
        candidate = furnished.made("sgd_model").data_version
        assert "digits     500 digits of the source openml, which are not MNIST" in done.stdout
        assert "champion   refused: the model was fitted on 500 digits" in done.stdout
        assert f"mnist-pipeline champion --accept {candidate}" in done.stdout
        assert furnished.made("champion_model").metadata["model_version"] == champion
        shown = furnished.cli("status", variables=openml)
        assert "Evaluated on 500 digits of the source openml, which are not MNIST." in shown.stdout
        page = furnished.made("report").path.read_text()
        assert "<title>Not MNIST: " in page
        assert "the source openml served other images than it promises" in page
        assert not furnished.check("train_set", "is_mnist").passed

        result, accepted = decide(furnished, accept=candidate, variables=openml)
        assert result.success
        assert accepted.metadata["model_version"] == candidate
        assert "accepted by a person, although" in accepted.metadata["decision"]
    # back to the sample, whose digits are other than the champion's now
    assert furnished.materialize().success
    back = furnished.made("champion_model").metadata
    assert back["model_version"] == candidate
    assert "the champion on other digits: 500 digits of the source openml" in back["decision"]


def test_the_first_model_of_digits_that_are_not_mnist_is_no_champion_either(
    house: House, small_openml: OpenML, params: Callable[[str], str]
) -> None:
    with serve(small_openml) as server:
        openml = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": server.url}
        openml["MNIST_PARAMS"] = params("[floor]\nopenml = 0.1\n")
        assert house.materialize(variables=openml).success
    assert house.made("champion_model").metadata["model_version"] == "none"


def test_a_wipe_of_the_champions_events_loses_neither_champion_nor_blocks(
    furnished: House, params: Callable[[str], str]
) -> None:
    good = furnished.made("sgd_model").data_version
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize("key:sgd_model+", other).success
    left = furnished.made("sgd_model").data_version
    assert decide(furnished, roll_back="previous")[0].success
    furnished.instance.wipe_assets([champion_history.CHAMPION])

    shown = furnished.cli("champion", variables=other)
    assert shown.returncode == 0
    assert "The events of champion_model were wiped or deleted" in shown.stdout
    assert f"Champion: {good}." in shown.stdout
    assert f"Blocked: {left} (rolled back to {good})." in shown.stdout
    model = champion_history.load_champion(furnished.instance, furnished.pipeline().store)
    assert model.data_version == good
    assert furnished.session(other).status()[champion_history.CHAMPION].status == "missing"
    assert furnished.session(other).refresh().success
    after = furnished.made("champion_model").metadata
    assert after["decision"] == f"refused: the model is blocked: rolled back to {good}"
    assert after["model_version"] == good


def test_after_a_wipe_of_the_models_events_the_champion_answers_and_a_refresh_restores_them(
    furnished: House, images: Path
) -> None:
    good = furnished.made("sgd_model").data_version
    furnished.instance.wipe_assets([champion_history.MODEL])
    assert furnished.cli("predict", str(images)).returncode == 0
    done = furnished.cli("refresh", "--json")
    assert done.returncode == 0, done.stderr
    assert "sgd_model" in json.loads(done.stdout)["reused"]
    assert json.loads(furnished.cli("champion", "--json").stdout)["model_version"] == good
    assert furnished.cli("predict", str(images)).returncode == 0


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
    assert refusal["model_version"] == good, "the present state is in the document all the same"
    assert furnished.cli("champion", "--rollback=").returncode == 2

    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize("key:sgd_model+", other).success
    newer = furnished.made("sgd_model").data_version
    shown = furnished.cli("champion", "--rollback", good[:8])
    assert shown.returncode == 0, shown.stderr
    assert f"Champion: {good}." in shown.stdout
    assert f"Blocked: {newer} (rolled back to {good})." in shown.stdout
    page = furnished.made("report")
    assert page.storage_id > furnished.made("champion_model").storage_id
    assert good in page.path.read_text(), "the report shows the champion"
    run = furnished.instance.get_runs(limit=1)[0]
    assert run.tags[champion_history.ROLL_BACK] == good, (
        "a real run, and what it did is in its tags"
    )

    again = furnished.cli("champion", "--rollback")
    assert again.returncode == 2
    assert f"{newer} (blocked: allow it first)" in again.stderr

    document = json.loads(furnished.cli("champion", "--allow", "--json").stdout)
    assert (document["model_version"], document["blocked"]) == (newer, {})
    assert [one["outcome"] for one in document["history"]] == [
        "promoted", "rolled back", "promoted", "promoted",
    ]  # fmt: skip
    both = furnished.cli("champion", "--allow", "--rollback", "--json")
    assert both.returncode == 2


def logs(house: House) -> list[str]:
    """The messages of the newest run."""
    [newest] = house.instance.get_runs(limit=1)
    return [log.message for log in house.instance.all_logs(newest.run_id)]


# a command that waits for a file between its decision and the record
_STOPPED = """
import sys, time
from pathlib import Path
from mnist_pipeline.cli.main import main
from mnist_pipeline.digits.evaluation import promotion
name, folder = sys.argv[1], Path(sys.argv[2])
owner = promotion if name == "roll_back" else promotion.Gate
decide = getattr(owner, name)
def stopped(*arguments, **more):
    decision = decide(*arguments, **more)
    (folder / "decided").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return decision
setattr(owner, name, stopped)
sys.argv = ["mnist-pipeline", *sys.argv[3:]]
main()
"""


@contextlib.contextmanager
def stopped_in(decide: str, house: House, *arguments: str) -> Iterator[Callable[[], None]]:
    """Start a command that is stopped when it has decided; yield what lets it go on to its end."""
    folder = house.folder.parent
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, decide, str(folder), *arguments],
        env=os.environ | house.environment | {"PYTHONPATH": str(PROJECT)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def go_on() -> None:
        (folder / "go").touch()
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out

    try:
        until((folder / "decided").exists, pause=0.02)
        yield go_on
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def _undecided(_furnished: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    def make(folder: Path) -> None:
        shutil.copytree(_furnished, folder)
        params = folder.parent / "undecided.toml"
        evaluated = "key:sgd_model or key:predictions or key:evaluation"
        with pytest.MonkeyPatch.context() as patch, open_house(folder, patch) as house:
            for random_state, select in ((1, DECIDED), (2, evaluated)):
                params.write_text(f"[model]\nrandom_state = {random_state}\n")
                assert house.materialize(select, {"MNIST_PARAMS": str(params)}).success

    return once(tmp_path_factory, worker_id, "undecided", make)


@pytest.fixture
def undecided(_undecided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Three models were fitted: the first champion, the present one, and one not decided on."""
    shutil.copytree(_undecided, tmp_path / "data")
    with open_house(tmp_path / "data", monkeypatch) as house:
        yield house


def versions_of(undecided: House) -> tuple[str, str, str]:
    """The three models, in this order."""
    present, first = champion_history.decisions(undecided.instance)
    newest = undecided.made("sgd_model").data_version
    found = str(first.champion.model_version), str(present.champion.model_version), newest
    assert len(set(found)) == 3
    return found


def from_command_line(house: House, to: str) -> Callable[[], bool]:
    """Start a rollback as a person does; return what waits for its end and says if it succeeded."""
    folder = house.folder.parent / "rollback"
    command = Processes(folder, os.environ | house.environment).start("champion", "--rollback", to)
    until(lambda: "waiting for run" in command.err, pause=0.02)
    return lambda: command.status() == 0


def from_ui(house: House, to: str) -> Callable[[], bool]:
    """The same as a run of its own, which asks for no other's end before."""
    pool = ThreadPoolExecutor(1)
    running = pool.submit(decide, house, roll_back=to)
    until(lambda: any(WAITS in log for log in logs(house)), pause=0.2)
    return lambda: running.result(120)[0].success


@pytest.mark.parametrize("roll_back", [from_command_line, from_ui])
def test_a_rollback_between_a_decision_and_its_record_waits_and_stands(
    roll_back: Callable[[House, str], Callable[[], bool]],
    undecided: House,
) -> None:
    good, rejected, candidate = versions_of(undecided)
    with stopped_in("decide", undecided, "run", "--select", "champion_model") as go_on:
        ended = roll_back(undecided, good)
        assert len(champion_history.decisions(undecided.instance)) == 2, "neither is recorded"
        go_on()
        assert ended()
    back, promoted, *_ = champion_history.decisions(undecided.instance)
    assert (promoted.outcome, promoted.champion.model_version) == ("promoted", candidate)
    assert back.outcome == "rolled back"
    assert back.champion.model_version == good
    assert candidate in back.champion.blocked
    if roll_back is from_command_line:
        # it was the champion when the command was given
        assert rejected in back.champion.blocked
    assert json.loads(undecided.made("champion_model").path.read_bytes())["model_version"] == good


def test_a_decision_between_a_rollback_and_its_record_waits_and_does_not_undo_it(
    undecided: House,
) -> None:
    good, left, candidate = versions_of(undecided)
    with (
        stopped_in("roll_back", undecided, "champion", "--rollback", good) as go_on,
        ThreadPoolExecutor(1) as pool,
    ):
        decided = pool.submit(decide, undecided)
        until(lambda: any(WAITS in log for log in logs(undecided)), pause=0.2)
        go_on()
        assert decided.result(120)[0].success
    refused, back, *_ = champion_history.decisions(undecided.instance)
    assert (back.outcome, back.champion.model_version) == ("rolled back", good)
    assert set(back.champion.blocked) == {left, candidate}
    assert refused.outcome == "refused"
    assert refused.champion == back.champion


def test_the_champion_outlives_the_run_that_made_it_whatever_the_newest_model_is(
    furnished: House, params: Callable[[str], str], images: Path
) -> None:
    good = furnished.made("sgd_model").data_version
    [run] = furnished.instance.get_runs()
    bad = {"MNIST_PARAMS": params("[model]\nalpha = 10.0\n")}
    assert furnished.materialize("key:sgd_model+", bad).success
    assert furnished.made("champion_model").metadata["decision"].startswith("refused")
    furnished.instance.delete_run(run.run_id)
    assert furnished.cli("refresh", variables=bad).returncode == 0
    collected = furnished.cli("gc", "--keep", "1", "--no-dry-run", variables=bad)
    assert collected.returncode == 0, collected.stderr
    shown = furnished.cli("champion", "--json", variables=bad)
    assert json.loads(shown.stdout)["model_version"] == good
    assert furnished.cli("predict", str(images), variables=bad).returncode == 0


def test_after_the_newest_decision_was_deleted_the_records_that_are_left_count_and_it_is_reported(
    furnished: House, params: Callable[[str], str]
) -> None:
    first = furnished.made("champion_model")
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize("key:sgd_model+", other).success
    newer = furnished.made("champion_model")
    assert newer.metadata["model_version"] != first.metadata["model_version"]
    [run] = furnished.instance.get_runs(limit=1)
    furnished.instance.delete_run(run.run_id)

    shown = furnished.cli("champion")
    assert shown.returncode == 0, shown.stderr
    assert f"A newer decision was deleted with run {run.run_id}" in shown.stdout
    assert f"Champion: {first.metadata['model_version']}." in shown.stdout
    document = json.loads(furnished.cli("champion", "--json").stdout)
    assert document["deleted_with_run"] == run.run_id
    assert document["model_version"] == first.metadata["model_version"]
    assert len(document["history"]) == 1
    model = champion_history.load_champion(furnished.instance, furnished.pipeline().store)
    assert model.data_version == first.metadata["model_version"]

    found = furnished.session(other).status()[champion_history.CHAMPION]
    assert found.status == "stale"
    assert f"its newest materialization was deleted with run {run.run_id}" in found.causes
    repaired = furnished.session(other).refresh()
    assert repaired.success
    assert repaired.computed == ["champion_model"]
    assert set(repaired.reused) == {"sgd_model", "predictions", "evaluation", "report"}
    assert furnished.made("champion_model").data_version == newer.data_version
    assert json.loads(furnished.cli("champion", "--json").stdout)["deleted_with_run"] is None


def test_a_refused_model_is_not_blocked_by_a_rollback(
    furnished: House, params: Callable[[str], str], swapped: Callable[[], None]
) -> None:
    other = {"MNIST_PARAMS": params("[model]\nrandom_state = 1\n")}
    assert furnished.materialize(DECIDED, other).success
    left = furnished.made("sgd_model").data_version
    swapped()
    assert furnished.materialize(DECIDED, force=True).success
    _, after = decide(furnished, roll_back="previous")
    assert set(json.loads(after.path.read_bytes())["blocked"]) == {left}


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
    assert f"sgd_model {first.data_version} is gone from the store" in str(result.error)
    assert after == before


def test_before_anything_is_decided_there_is_no_champion(house: House) -> None:
    found = house.cli("champion", "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout) == {
        "model_version": None, "blocked": {}, "deleted_with_run": None, "history": [],
    }  # fmt: skip
    assert "No decision is recorded" in house.cli("champion").stdout


def test_a_champion_of_long_ago_is_not_forgotten(
    furnished: House, swapped: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = furnished.made("sgd_model")
    swapped()
    assert furnished.materialize(DECIDED, force=True).success
    monkeypatch.setattr(retention, "RUN_DAYS", -1)
    monkeypatch.setattr(retention, "RUN_MATERIALIZATIONS", 1)
    furnished.session().prune(dry_run=False)
    events = furnished.instance.fetch_materializations(champion_history.MODEL, limit=10).records
    kept = {
        event.asset_materialization.tags["dagster/data_version"]
        for event in events
        if event.asset_materialization and event.asset_materialization.tags
    }
    assert champion.data_version in kept
