"""A project's own checks, plain Dagster ones: they stop every entry point."""

import dagster as dg
import pytest

from mnist_pipeline_tests.incremental.conftest import ALL, Toy, of

DOWNSTREAM = {"total", "summary"}


@dg.asset_check(asset="left", blocking=True)
def never() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="it always fails")


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
            assert "left: never" in (result.error or "")
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
        assert "left: never" in (session.refresh().error or "")
        assert of(session)["left"].status == "refused"
    assert toy.calls() == []

    @dg.asset_check(asset="left", blocking=True, name="never")
    def repaired() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with toy.session(checks=[repaired]) as session:
        assert session.refresh().success
    assert toy.words(checks=[repaired]) == dict.fromkeys(ALL, "fresh")
