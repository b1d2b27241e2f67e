"""A project's own checks, plain Dagster ones: they stop every entry point."""

import dagster as dg
import pytest

from mnist_pipeline.incremental import Session
from mnist_pipeline_tests.incremental.conftest import ALL, Toy, of
from mnist_pipeline_tests.incremental.test_automation import launched, reason, tick

DOWNSTREAM = {"total", "summary"}


@dg.asset_check(asset="left", blocking=True)
def never() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="it always fails")


@dg.asset_check(asset="left", blocking=True)
def broken() -> dg.AssetCheckResult:
    raise ValueError("broken")


@pytest.mark.parametrize("check", [never, broken])
def test_keep_fresh_stops_when_a_check_refuses_or_fails_again(
    check: dg.AssetChecksDefinition, toy: Toy
) -> None:
    with toy.session(checks=[check]) as session:
        for _ in range(2):
            if reason_or_run(session):
                break
        assert "was asked for in this state already" in reason(session)


def test_a_blocking_check_that_fails_without_a_description_is_named(new_toy: Toy) -> None:
    @dg.asset_check(asset="left", blocking=True)
    def silent() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    with new_toy.session(checks=[silent]) as session:
        assert "left was refused by its check silent: failed" in (session.refresh().error or "")
        assert of(session)["left"].causes == ["refused by its check silent: failed"]


def reason_or_run(session: Session) -> bool:
    """Launch what a tick asks for; return whether it asks for nothing."""
    found = tick(session)
    if isinstance(found, dg.SkipReason):
        return True
    assert not launched(session).success
    return False


@pytest.mark.parametrize("entry", ["run", "refresh", "the job of the UI"])
def test_a_blocking_check_that_fails_stops_what_is_downstream_from_every_entry_point(
    entry: str, new_toy: Toy
) -> None:
    with new_toy.session(checks=[never]) as session:
        if entry == "the job of the UI":
            job = session.pipeline.definitions.resolve_job_def("refresh")
            done = job.execute_in_process(instance=session.instance, raise_on_error=False)
            assert not done.success
        else:
            result = session.run() if entry == "run" else session.refresh()
            assert "left was refused by its check never: it always fails" in (result.error or "")
        assert not DOWNSTREAM & set(new_toy.calls())
        found = of(session)["left"]
        assert (found.status, found.causes) == (
            "refused",
            ["refused by its check never: it always fails"],
        )
        alone = session.run([dg.AssetKey("total")])
        assert "was refused by never and is never an input" in (alone.error or "")


def test_refresh_runs_a_check_that_was_added_later(toy: Toy) -> None:
    with toy.session(checks=[never]) as session:
        found = of(session)
        assert found["left"].causes == ["its check never has no result on it"]
        assert {name for name in ALL if found[name].status == "waiting"} == DOWNSTREAM
        assert "left was refused by its check never: it always fails" in (
            session.refresh().error or ""
        )
        assert of(session)["left"].status == "refused"
    assert toy.calls() == []

    @dg.asset_check(asset="left", blocking=True, name="never")
    def repaired() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with toy.session(checks=[repaired]) as session:
        assert session.refresh().success
    assert toy.words(checks=[repaired]) == dict.fromkeys(ALL, "fresh")
