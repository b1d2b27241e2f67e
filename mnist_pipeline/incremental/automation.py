"""The schedule, the sensors that keep assets up to date, and the check of their files."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from . import _dagster, history, runs, status
from .digest import content_digest
from .engine import Engine
from .errors import SettingsError
from .session import Session
from .status import AssetStatus

if TYPE_CHECKING:
    from .pipeline import Pipeline

TICK_SECONDS = 10

VERIFY = "verify"
"""Name of the job that checks the files of all assets."""

_RUN_KEY = "dagster/run_key"


def schedule(pipeline: "Pipeline", cron: str) -> dg.ScheduleDefinition:
    """Define when the job `refresh` runs. A tick deletes old runs, too.

    Raises SettingsError if the cron expression is not valid, or never true.
    """

    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        session = Session(pipeline, context.instance)
        session.prune(dry_run=False)
        if busy := _in_progress(session):
            return dg.SkipReason(busy)
        return dg.RunRequest()

    try:
        _dagster.next_tick(cron)
        return dg.ScheduleDefinition(
            name=pipeline.schedule,
            job_name=runs.REFRESH,
            cron_schedule=cron,
            execution_timezone="UTC",
            execution_fn=tick,
            description="Runs the job refresh. A tick is skipped while runs are in progress.",
        )
    except (dg.DagsterInvalidDefinitionError, ValueError):
        raise SettingsError(
            f"the cron expression {cron!r} is not valid, or never true: five fields (or @daily and "
            "the like) are needed, for example '0 3 * * 1' for Mondays at 3:00 UTC"
        ) from None


def keep_fresh(pipeline: "Pipeline", jobs: Sequence[_dagster.AssetJob]) -> dg.SensorDefinition:
    """Define the sensor that runs `refresh` on what is not up to date, and `verify` once a day.

    It reads the state of all assets, so no event can be missed, and requests one run for each
    state: a run that failed is not repeated before something changes.
    """

    @dg.sensor(
        name="keep_fresh",
        jobs=jobs,
        minimum_interval_seconds=TICK_SECONDS,
        description=(
            "Runs refresh on what is not up to date, once for each state; verifies all files daily."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if reason := pipeline.changed():
            return dg.SkipReason(f"{reason}: reload them first")
        session = Session(pipeline, context.instance)
        if busy := _in_progress(session):
            return dg.SkipReason(busy)
        engine, statuses = pipeline.engine, session.status()
        wanted = status.outdated(engine, statuses)
        if not wanted:
            daily = f"{VERIFY} {datetime.now(UTC).date()}"
            if _asked_for(context.instance, daily):
                return dg.SkipReason("all assets are up to date")
            return dg.RunRequest(daily, job_name=VERIFY)
        # not the causes: a failed attempt adds one, which would be another state
        key = content_digest(
            {
                one.to_user_string(): [
                    engine.code_versions[one].digest,
                    _recorded(engine, one, found),
                    found.status in {"missing", "damaged"},
                ]
                for one, found in statuses.items()
            }
        )
        if run_id := _asked_for(context.instance, key):
            why = runs.why_failed(context.instance, run_id)
            names = ", ".join(one.to_user_string() for one in wanted)
            return dg.SkipReason(
                f"run {run_id} was asked for in this state already, and {names} are not up to "
                f"date: {why}. Fix the cause, then materialize them."
            )
        session.prune(dry_run=False)
        return dg.RunRequest(key, job_name=runs.REFRESH, asset_selection=list(wanted))

    return sensor


def a_run_each(pipeline: "Pipeline", job: _dagster.AssetJob) -> dg.SensorDefinition:
    """Define the sensor that materializes the assets of an `on_request` job, each in its own run.

    So they spread over the workers. An asset whose run failed is not tried again before something
    changes.
    """

    @dg.sensor(
        name=f"{job.name}_a_run_each",
        job=job,
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Runs {job.name} on what is not up to date, each asset in a run of its own.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if reason := pipeline.changed():
            return dg.SkipReason(f"{reason}: reload them first")
        engine, wanted = pipeline.engine, pipeline.jobs[job.name]
        statuses = status.assess(engine, context.instance, wanted | set(pipeline.keys))
        requests = []
        for key in sorted(wanted):
            parents = [statuses[parent] for parent in engine.parents(key)]
            ready = all(parent.status == "fresh" for parent in parents)
            if statuses[key].status != "fresh" and ready:
                versions = [parent.data_version for parent in parents]
                state = content_digest(engine.code_versions[key].digest, {"parents": versions})
                name = f"{key.to_user_string()} {state}"
                requests.append(dg.RunRequest(name, asset_selection=[key]))
        return requests or dg.SkipReason("all assets are up to date, or wait for others")

    return sensor


def intact(pipeline: "Pipeline") -> dg.AssetChecksDefinition:
    """Define the check `file_is_intact` of every asset, one step for all of them."""
    text = "The file of the newest materialization exists and has its size and its digest."

    @dg.multi_asset_check(
        name="check_files",
        specs=[
            dg.AssetCheckSpec(history.INTACT, asset=key, description=text) for key in pipeline.keys
        ],
        description="Reads every file and compares it with what was recorded.",
        can_subset=True,
    )
    def files(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for check in context.selected_asset_check_keys:
            made = history.newest(context.instance, check.asset_key)
            artifacts = status.files_of(pipeline.engine, context.instance, made) if made else []
            state, causes = status.state_of_files(pipeline.store, artifacts, verify=True)
            intact = "the file has the size and the digest that were recorded"
            yield dg.AssetCheckResult(
                passed=state == "fresh",
                asset_key=check.asset_key,
                check_name=check.name,
                description="; ".join(causes) or intact,
                metadata={"size_bytes": sum(one.size for one in artifacts if one)},
            )

    return files


def _asked_for(instance: dg.DagsterInstance, run_key: str) -> str | None:
    """Return the run that was requested with a key, or None."""
    found = instance.get_run_records(dg.RunsFilter(tags={_RUN_KEY: run_key}), limit=1)
    return found[0].dagster_run.run_id if found else None


def _recorded(engine: Engine, key: dg.AssetKey, found: AssetStatus) -> int | str | None:
    """Return what changes with an asset's records.

    A check that runs after publication can refuse the same data version again and again: there
    the version counts, not the record.
    """
    refused = found.status in {"stale", "refused"} and engine.checks.get(key)
    return found.data_version if refused else found.storage_id


def _in_progress(session: Session) -> str | None:
    """Name the oldest run in progress on the pipeline's assets, or return None."""
    found = runs.unfinished(session, session.pipeline.keys)
    return f"run {found[0].run_id} is in progress on these assets" if found else None
