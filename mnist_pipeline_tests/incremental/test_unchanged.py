"""Quick answers: given only where the slow way would give the same."""

import os
import random
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.incremental import runs
from mnist_pipeline.incremental.unchanged import QuickAnswers
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, key

Answer = dict[str, list[Any]]


@pytest.fixture(autouse=True)
def _surroundings(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a new process, which opening a session changes."""
    monkeypatch.setenv("DAGSTER_HOME", str(toy.folder / "home"))
    toy.load()


def quick(toy: Toy) -> QuickAnswers:
    return QuickAnswers(toy.folder / "toy", "status")


def checked(toy: Toy) -> Answer:
    """The complete check, whose answer is kept if everything is up to date."""
    answers, home = quick(toy), toy.folder / "home"
    answers.begin([str(toy.folder / "params.json"), str(home / "dagster.yaml")], str(home))
    with toy.session() as session:
        statuses = session.status()
        found: Answer = {
            one.to_user_string(): [status.status, status.causes, status.data_version]
            for one, status in statuses.items()
        }
        if (sizes := session.local_sizes(statuses)) is not None:
            answers.keep(found, sizes)
    return found


def test_the_answer_is_given_again_until_something_changes(toy: Toy) -> None:
    assert quick(toy).find() is None
    answer = checked(toy)
    assert {status for status, _, _ in answer.values()} == {"fresh"}
    assert quick(toy).find() == answer
    assert QuickAnswers(toy.folder / "toy", "refresh").find() is None, "another command"
    toy.set_factor(3)
    assert quick(toy).find() is None
    assert checked(toy)["left"][0] == "stale"
    assert quick(toy).find() is None
    toy.set_factor(2)
    assert quick(toy).find() == answer, "an edit undone is no change"


def test_nothing_is_kept_of_what_changed_during_the_check(toy: Toy) -> None:
    answers, home = quick(toy), toy.folder / "home"
    answers.begin([str(toy.folder / "params.json")], str(home))
    with toy.session() as session:
        sizes = session.local_sizes(session.status())
    assert sizes is not None
    toy.set_factor(3)
    answers.keep("everything is up to date", sizes)
    assert quick(toy).find() is None


def test_a_pipe_in_the_place_of_a_file_is_a_change_and_is_not_waited_for(toy: Toy) -> None:
    kept = checked(toy)
    params = toy.folder / "params.json"
    params.rename(toy.folder / "moved")
    os.mkfifo(params)
    assert quick(toy).find() is None
    params.unlink()
    (toy.folder / "moved").rename(params)
    assert quick(toy).find() == kept


def test_nothing_is_kept_where_the_history_is_not_in_the_home(toy: Toy) -> None:
    with toy.session() as session:
        statuses = session.status()
        assert session.local_sizes(statuses)
        elsewhere = dg.DagsterInstance.ephemeral()
        session = type(session)(session.pipeline, elsewhere, session.report)
        assert session.local_sizes(statuses) is None


def test_nothing_is_given_while_a_run_is_unfinished(toy: Toy) -> None:
    checked(toy)
    with toy.session() as session:
        job = session.pipeline.definitions.resolve_job_def(runs.REFRESH)
        run = session.instance.create_run_for_job(job)
        assert quick(toy).find() is None
        checked(toy)
        assert quick(toy).find() is None
        session.instance.delete_run(run.run_id)
    assert checked(toy) == quick(toy).find()


@pytest.mark.parametrize("above", range(3))
def test_nothing_is_given_where_a_link_is_in_the_place_of_a_file_or_a_folder(
    above: int, toy: Toy
) -> None:
    kept = checked(toy)
    path = toy.path("total")
    place = [path, *path.parents][above]
    place.symlink_to(place.rename(toy.folder / "moved"))
    assert path.is_file()
    assert quick(toy).find() is None
    place.unlink()
    (toy.folder / "moved").rename(place)
    assert quick(toy).find() == kept


@pytest.mark.parametrize("seed", range(2))
def test_after_random_changes_the_quick_answer_is_the_slow_one_or_none(
    seed: int, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)

    def edit() -> None:
        file = toy.folder / "toy" / chance.choice(["numbers.py", "total.py", "display.py"])
        file.write_text(f"{file.read_text()}\nEDITED = {chance.randrange(2)}\n")

    def params() -> None:
        toy.set_factor(chance.randrange(3))

    def damage() -> None:
        path = toy.path(chance.choice(ALL))
        if path.exists():
            path.write_bytes(path.read_bytes()[:-1]) if chance.random() < 0.5 else path.unlink()

    def run() -> None:
        toy.run(*chance.sample(ALL, 2), force=chance.random() < 0.5)

    def fail() -> None:
        toy.edit("total.py", "return int(left", "raise ValueError('wrong')\n    return int(left")
        assert not toy.run("total", force=True).success
        toy.edit("total.py", "raise ValueError('wrong')\n    ", "")

    def delete_run() -> None:
        with toy.session() as session:
            found = session.instance.get_runs(limit=5)
            session.instance.delete_run(chance.choice(found).run_id)

    def wipe() -> None:
        with toy.session() as session:
            session.instance.wipe_assets([key(chance.choice(ALL))])

    def variable() -> None:
        monkeypatch.setenv("SOME_SETTING", str(chance.randrange(2)))

    def nothing() -> None:
        pass

    changes = [edit, params, damage, run, fail, delete_run, wipe, variable, nothing]
    for _ in range(5):
        toy.refresh()
        kept = checked(toy)
        assert quick(toy).find() == kept
        for change in chance.choices(changes, k=2):
            change()
            found = quick(toy).find()
            assert found in (None, checked(toy)), change.__name__
