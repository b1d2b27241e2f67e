"""Who is at work, what was refused, and what the sensor and the schedule make of it, in process."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from mnist_pipeline.incremental.keep_fresh import ATTEMPT, PAUSES

from mnist_pipeline.definitions import RETRAIN_ALL, build_definitions
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.incremental import failures, refresh, runs
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.incremental.status import assess
from mnist_pipeline.incremental.store import Store
from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.webserver import until

KEYS = [dg.AssetKey("sgd_model")]
STARTED = dg.DagsterRunStatus.STARTED


def everything(house: House, **variables: str) -> dg.JobDefinition:
    return build_definitions(house.settings(**variables)).resolve_job_def(RETRAIN_ALL)


def statuses(house: House, job: dg.JobDefinition) -> dict[str, str]:
    found = assess(job.asset_layer.asset_graph, house.instance, Store(house.folder))
    return {key.to_user_string(): standing.status for key, standing in found.items()}


@pytest.fixture
def dead(house: House) -> str:
    """The owner tag, but for the run's id, of a process that was killed."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from pathlib import Path\n"
            "import dagster as dg\n"
            "from mnist_pipeline.incremental import runs\n"
            "from mnist_pipeline.incremental.store import Store\n"
            "at = dg.DagsterInstance.ephemeral(), Store(Path(sys.argv[1]))\n"
            "print(runs.owner(*at, '')[runs.OWNER], flush=True)\n"
            "input()",
            str(house.folder),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    tag = process.stdout.readline().rstrip("\n")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return tag


def mine(house: House) -> str:
    """The owner tag, but for the run's id, of this process."""
    return runs.owner(house.instance, Store(house.folder), "")[runs.OWNER]


def begun(house: House, owner: str, status: dg.DagsterRunStatus = STARTED) -> dg.DagsterRun:
    """A run of the model that says that it is this process's."""
    run_id = str(uuid.uuid4())
    return house.instance.create_run_for_job(
        everything(house).get_subset(asset_selection=set(KEYS)),
        run_id=run_id,
        status=status,
        asset_selection=frozenset(KEYS),
        tags={runs.OWNER: run_id + owner},
    )


def status_of(house: House, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = house.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_a_run_of_a_dead_process_is_marked_failed_and_its_pool_slot_is_free(
    house: House, dead: str
) -> None:
    storage = house.instance.event_log_storage
    storage.set_concurrency_slots("fits", 1)
    run = begun(house, dead)
    assert storage.claim_concurrency_slot("fits", run.run_id, "sgd_model").is_claimed
    assert runs.unfinished(house.instance, [], KEYS) == []
    assert status_of(house, run) is dg.DagsterRunStatus.FAILURE
    log = [entry.message for entry in house.instance.all_logs(run.run_id)]
    assert any(
        f"its process {dead.split()[1]} on {dead.split()[0]} is gone" in message for message in log
    )
    assert storage.claim_concurrency_slot("fits", "another", "sgd_model").is_claimed


def test_a_run_of_a_dead_process_that_was_being_canceled_is_canceled(
    house: House, dead: str
) -> None:
    run = begun(house, dead, dg.DagsterRunStatus.CANCELING)
    assert runs.unfinished(house.instance, [], KEYS) == []
    assert status_of(house, run) is dg.DagsterRunStatus.CANCELED


def test_a_run_is_in_progress_while_its_process_lives_or_nobody_can_tell(
    house: House, dead: str
) -> None:
    alive = [
        begun(house, mine(house)),
        # of another machine, whose files are not here
        begun(house, " elsewhere 1 /nowhere/.owners/1.lock"),
        begun(house, f" elsewhere 1 {house.folder}/.owners/1.lock"),
        # executed again: the tags are the dead one's
        begun(house, "and more" + dead),
    ]
    ended = begun(house, f" {os.uname().nodename} 1 {house.folder}/.owners/1.lock")
    found = runs.unfinished(house.instance, [], KEYS)
    assert [run.run_id for run in found] == [run.run_id for run in alive]
    assert status_of(house, ended) is dg.DagsterRunStatus.FAILURE
    assert runs.unfinished(house.instance, [], [dg.AssetKey("of_another_project")]) == []


def test_a_run_that_no_process_took_up_is_given_up_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = everything(house)
    run = house.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    assert len(runs.unfinished(house.instance, [RETRAIN_ALL], [])) == 1
    monkeypatch.setattr(runs, "START_SECONDS", -1)
    assert runs.unfinished(house.instance, [RETRAIN_ALL], []) == []
    assert status_of(house, run) is dg.DagsterRunStatus.FAILURE


def test_a_run_that_others_took_for_dead_publishes_nothing_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = runs.owner

    def buried(*claimed: Any) -> dict[str, str]:
        found = house.instance.get_run_by_id(claimed[2])
        assert found is not None
        house.instance.report_run_failed(found, "its process is gone")
        return claim(*claimed)

    monkeypatch.setattr(runs, "owner", buried)
    result = house.materialize("raw_mnist")
    assert not result.success
    assert "was marked as failure while this process was at work on it" in failures.of_run(
        house.instance, result.run_id
    )
    assert house.latest("raw_mnist") is None
    assert not list(house.folder.glob("raw_mnist/*/*"))


def test_every_run_says_which_process_owns_it_and_what_asked_for_it(furnished: House) -> None:
    [run] = furnished.instance.get_runs()
    run_id, host, pid, lock = run.tags[runs.OWNER].split(" ", 3)
    assert (run_id, host, int(pid) > 1) == (run.run_id, os.uname().nodename, True)
    assert not Path(lock).exists(), "a process that ended leaves nothing behind"
    assert run.tags["mnist_pipeline/trigger"] == "mnist-pipeline run"
    # whoever launches it, the process that works on it says so
    again = furnished.materialize("report")
    claimed = furnished.instance.get_run_by_id(again.run_id)
    assert claimed is not None
    assert claimed.tags[runs.OWNER].split()[2] == str(os.getpid())


def test_a_refresh_waits_for_the_run_in_progress_and_says_so(furnished: House) -> None:
    other = begun(furnished, mine(furnished))
    said: list[str] = []

    def finish() -> None:
        until_said = time.monotonic() + 30
        while not said and time.monotonic() < until_said:
            time.sleep(0.1)
        furnished.instance.report_run_failed(other)

    thread = threading.Thread(target=finish)
    thread.start()
    refreshed = refresh.refresh(
        everything(furnished),
        furnished.instance,
        Store(furnished.folder),
        trigger="test",
        say=said.append,
    )
    thread.join()
    assert len(said) == 1
    assert said[0].startswith(f"run {other.run_id} is at work on these assets (owner: ")
    assert (refreshed.materialized, refreshed.error) == ([], None)


def test_of_two_refreshes_at_once_the_later_one_waits_and_finds_nothing_to_do(
    forked: Forked,
) -> None:
    both = [forked.start("refresh", "--json") for _ in range(2)]
    documents = sorted((one.document() for one in both), key=lambda one: one["materialized"])
    assert [len(document["materialized"]) for document in documents] == [0, 8]
    assert [document["status"] for document in documents] == ["success", "success"]
    assert "another refresh is at work: waiting for it" in both[0].err + both[1].err


def test_of_two_runs_of_everything_at_once_the_later_one_waits(forked: Forked) -> None:
    first = forked.start("run", "--json")
    until(lambda: "done in" in first.err, pause=0.01)
    second = forked.start("run", "--json")
    assert [one.status() for one in (first, second)] == [0, 0]
    assert "another refresh is at work: waiting for it" in second.err
    made = forked.json("history", "--limit", "16")["materializations"]
    assert len({entry["run_id"] for entry in made[:8]}) == 1, "one after the other"
    assert len({entry["run_id"] for entry in made[8:]}) == 1


def test_a_refusal_that_was_overcome_is_history(
    furnished: House, params: Callable[[str], str]
) -> None:
    demanding = params("[evaluation]\nleast_accuracy = 0.999\n")
    assert not furnished.materialize("evaluation", {"MNIST_PARAMS": demanding}).success
    job = everything(furnished, MNIST_PARAMS=demanding)
    assert statuses(furnished, job)["evaluation"] == "refused"
    assert furnished.materialize("evaluation").success
    assert statuses(furnished, everything(furnished))["evaluation"] == "fresh"
    assert statuses(furnished, job)["evaluation"] == "stale", "it was not tried since"


def test_nothing_is_made_under_definitions_that_changed_meanwhile(furnished: House) -> None:
    furnished.made("report").path.unlink()
    refreshed = refresh.refresh(
        everything(furnished),
        furnished.instance,
        Store(furnished.folder),
        trigger="test",
        changed=lambda: "the definitions of report changed",
    )
    assert refreshed.materialized == []
    assert refreshed.error == (
        "the definitions of report changed since they were loaded: start again"
    )


def test_a_version_that_a_check_refused_is_no_input_of_a_refresh(
    furnished: House, params: Callable[[str], str]
) -> None:
    sound = False

    @dg.asset_check(asset="train_set", blocking=True)
    def by_hand(train_set: Digits) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=sound, description="looked at it")

    settings = furnished.settings(MNIST_PARAMS=params("[split]\nrandom_state = 7\n"))
    job = build_definitions(settings, more_checks=[by_hand]).resolve_job_def(RETRAIN_ALL)
    arguments = job, furnished.instance, Store(furnished.folder)
    before = furnished.versions()
    for _ in range(2):
        refreshed = refresh.refresh(*arguments, trigger="test")
        assert refreshed.error
        assert set(refreshed.materialized) <= {"train_set", "test_set"}
        found = statuses(furnished, job)
        assert (found["train_set"], found["test_set"]) == ("refused", "fresh")
        assert (found["sgd_model"], found["champion_model"]) == ("stale", "stale")
        assert refresh.plan(*arguments).first_wave == ["train_set"]
        standings = assess(job.asset_layer.asset_graph, furnished.instance, arguments[2])
        assert standings[dg.AssetKey("train_set")].causes == [
            "refused by its check by_hand: looked at it"
        ]
        for asset in ("sgd_model", "predictions", "evaluation", "champion_model", "report"):
            assert furnished.made(asset).data_version == before[asset]
    sound = True
    assert refresh.refresh(*arguments, trigger="test").error is None
    assert set(statuses(furnished, job).values()) == {"fresh"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Let time pass for the sensor, without waiting for it."""
    late = 0.0
    now = time.time

    def passes(seconds: float) -> None:
        nonlocal late
        late += seconds

    monkeypatch.setattr(time, "time", lambda: now() + late)
    return passes  # type: ignore[return-value]


class KeepFresh:
    """The sensor, ticked by hand, and what it asks for, run at once."""

    def __init__(self, house: House, **variables: str) -> None:
        self.house = house
        settings = house.settings(**variables)
        self.definitions = build_definitions(settings, settings_now=lambda: settings)
        self.cursor: str | None = None

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(instance=self.house.instance, cursor=self.cursor)
        sensor = self.definitions.get_repository_def().get_sensor_def("keep_fresh")
        result = cast("dg.SensorResult | dg.SkipReason", sensor(context))
        if isinstance(result, dg.SensorResult):
            self.cursor = result.cursor
            for request in result.run_requests or []:
                self.definitions.resolve_job_def(RETRAIN_ALL).execute_in_process(
                    instance=self.house.instance,
                    asset_selection=request.asset_selection,
                    tags=request.tags,
                    raise_on_error=False,
                )
        return result

    def asked(self) -> list[str]:
        """The assets that one tick asks for."""
        result = self.tick()
        requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
        return [key.to_user_string() for one in requests for key in one.asset_selection or []]

    def reason(self) -> str:
        """Why one tick asks for nothing."""
        result = self.tick()
        skipped = result.skip_reason if isinstance(result, dg.SensorResult) else result
        assert skipped is not None
        return skipped.skip_message or ""


def test_pauses_grow_between_attempts_and_then_it_is_left_alone(
    furnished: House, params: Callable[[str], str], hasty: Callable[[float], None]
) -> None:
    assert sorted(PAUSES) == PAUSES
    demanding = params("[evaluation]\nleast_accuracy = 0.999\n")
    sensor = KeepFresh(furnished, MNIST_PARAMS=demanding)
    assert sensor.asked() == ["evaluation"]
    for number, pause in enumerate(PAUSES, start=2):
        hasty(pause - 2)
        assert sensor.reason().startswith(f"evaluation failed, attempt {number} in ")
        hasty(3)
        assert sensor.asked() == ["evaluation"]
        run = furnished.instance.get_runs(limit=1)[0]
        assert run.tags[ATTEMPT.format("evaluation")].split()[0] == str(number)
    assert sensor.reason() == "evaluation failed 4 times and is left alone"
    hasty(100_000)
    assert sensor.reason() == "nothing more to ask for"
    # until somebody runs it, whatever comes of it
    assert not furnished.materialize("evaluation", {"MNIST_PARAMS": demanding}).success
    assert sensor.asked() == ["evaluation"]
    # or versions change
    assert KeepFresh(furnished).reason() == "all is fresh"


def test_a_scheduled_retraining_that_fails_does_not_begin_the_attempts_anew(
    furnished: House, params: Callable[[str], str], hasty: Callable[[float], None]
) -> None:
    sensor = KeepFresh(furnished, MNIST_PARAMS=params("[evaluation]\nleast_accuracy = 0.999\n"))
    for _ in range(len(PAUSES) + 1):
        assert sensor.asked() == ["evaluation"]
        hasty(1000)
    assert sensor.reason() == "evaluation failed 4 times and is left alone"
    job = sensor.definitions.resolve_job_def("retraining")
    scheduled = job.execute_in_process(
        instance=furnished.instance,
        tags={"dagster/schedule_name": "retraining"},
        raise_on_error=False,
    )
    assert not scheduled.success
    assert sensor.reason() == "nothing more to ask for"


def test_an_attempt_that_ends_well_and_changes_nothing_is_not_repeated_for_ever(
    furnished: House, hasty: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = KeepFresh(furnished)
    monkeypatch.setattr(Store, "size", lambda self, artifact: None)
    asked = []
    for _ in range(10):
        asked += sensor.asked()
        hasty(1000)
    assert asked == ["raw_mnist"] * 4
    monkeypatch.undo()
    assert sensor.reason() == "all is fresh"
    # once it was fresh again, a new loss is a new beginning
    furnished.made("raw_mnist").path.unlink()
    assert sensor.asked() == ["raw_mnist"]


def test_the_sensor_asks_for_nothing_while_somebody_is_at_work(furnished: House) -> None:
    furnished.made("report").path.unlink()
    sensor = KeepFresh(furnished)
    run = begun(furnished, mine(furnished))
    assert sensor.reason() == f"run {run.run_id} is in progress on these assets"
    furnished.instance.report_run_failed(run)
    with runs.alone(furnished.instance, Store(furnished.folder), lambda text: None):
        assert sensor.reason() == "a refresh is at work on these assets"
    assert sensor.asked() == ["report"]
    assert sensor.reason() == "all is fresh"


def test_the_sensor_does_not_take_params_that_do_not_load(
    furnished: House, params: Callable[[str], str]
) -> None:
    file = params("")
    sensor = KeepFresh(furnished, MNIST_PARAMS=file)
    assert sensor.reason() == "all is fresh"
    params("[model]\nalpha = -1.0\n")
    assert sensor.reason().startswith("the definitions changed and do not load: ")
    params("[model]\nalpha = 0.5\n")
    assert sensor.reason() == "the definitions of sgd_model changed: reload them first"


@pytest.mark.parametrize("cron", ["every monday", "0 3 * *", "61 * * * *", ""])
def test_a_cron_expression_that_is_none_is_refused_when_the_definitions_load(
    cron: str, house: House
) -> None:
    with pytest.raises(SettingsError, match=f"MNIST_RETRAIN_CRON = {cron!r}".replace("*", r"\*")):
        build_definitions(house.settings(MNIST_RETRAIN_CRON=cron))


def test_the_schedule_ticks_by_the_setting_and_the_source_is_due_at_every_tick(
    house: House,
) -> None:
    definitions = build_definitions(house.settings(MNIST_RETRAIN_CRON="15 4 * * *"))
    assert definitions.resolve_schedule_def("retraining").cron_schedule == "15 4 * * *"
    policy = definitions.resolve_asset_graph().get(dg.AssetKey("raw_mnist")).freshness_policy
    assert policy == dg.FreshnessPolicy.cron("15 4 * * *", timedelta(minutes=1))


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"model_params": {"config": {"alpha": 1.0}}}},
        {"ops": {"sgd_model": {"config": {"alpha": 1.0}}}},
    ],
)
def test_hyperparameters_in_the_launchpad_are_refused_before_anything_runs(
    config: dict[str, Any], furnished: House
) -> None:
    before = furnished.versions()
    with pytest.raises(dg.DagsterInvalidConfigError):
        everything(furnished).execute_in_process(
            run_config=config, instance=furnished.instance, asset_selection=KEYS
        )
    assert furnished.versions() == before


def test_a_full_run_has_the_same_data_versions_in_any_folder_hash_seed_and_number_of_threads(
    furnished: House, clone: Clone
) -> None:
    one = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
    found = clone.json("refresh", **one)
    assert len(found["materialized"]) == 8
    standings = clone.status()
    assert {asset: standings[asset]["data_version"] for asset in standings} == furnished.versions()
