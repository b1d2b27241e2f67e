"""The sensor `keep_fresh`: it asks for what can be made now, until all is fresh.

Level-triggered: each tick looks at how everything stands, so no event can be missed. What was tried
is read from the tags of the assets' last runs.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import dagster as dg

from mnist_pipeline.incremental import failures, runs, status
from mnist_pipeline.incremental.automation import NAME as RETRAINING
from mnist_pipeline.incremental.history import TRIGGER
from mnist_pipeline.incremental.store import Store

PAUSES = [10, 30, 90]
"""Seconds between a failed attempt and the next; after as many more attempts it is left alone."""

TICK_SECONDS = 10

ATTEMPT = "mnist_pipeline/attempt_{}"
"""Tag of a run, by asset: the number of the attempt, and what the asset would be made from."""


def keep_fresh_sensor(
    job_name: str,
    everything: Callable[[], dg.JobDefinition],
    store: Store,
    changed: Callable[[], str | None],
) -> dg.SensorDefinition:
    """Define the sensor.

    Parameters
    ----------
    job_name, everything
        The job of all assets: its name, and a callable that returns it as it was loaded.
    store : Store
    changed : callable
        Says what is no longer as it was when the definitions were loaded, or returns None.
    """

    @dg.sensor(
        name="keep_fresh",
        job_name=job_name,
        minimum_interval_seconds=TICK_SECONDS,
        description=(
            "Makes what is not fresh, wave by wave. A failed attempt is made again "
            f"{len(PAUSES)} times, after {', '.join(map(str, PAUSES))} s; then it is reported once "
            "and left until versions change or somebody runs it."
        ),
    )
    def keep_fresh(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        graph = everything().asset_layer.asset_graph
        keys = graph.get_all_asset_keys()
        if reason := changed():
            return dg.SkipReason(f"{reason}: reload them first")
        if busy := runs.in_progress(context.instance, [job_name, RETRAINING], keys):
            return dg.SkipReason(busy)
        if runs.is_refreshing(context.instance, store):
            return dg.SkipReason("a refresh is at work on these assets")
        standings = status.assess(graph, context.instance, store)
        last_runs = _last_runs(context.instance, keys)
        seen = Seen(**json.loads(context.cursor or "{}"))
        due: list[dg.AssetKey] = []
        tags: dict[str, str] = {}
        notes: list[str] = []
        for key, standing in standings.items():
            if standing.status == "fresh" and key in last_runs:
                asset = key.to_user_string()
                seen.fresh_after[asset] = last_runs[key].dagster_run.run_id
                seen.reported.pop(asset, None)
        for key in status.frontier(graph, standings):
            asset, origin = key.to_user_string(), standings[key].made_from
            last = _newest_attempt(context.instance, last_runs.get(key), asset, origin)
            failed = _failed_attempts(last, asset, seen) if last else 0
            if last and failed > len(PAUSES):
                run_id = last.dagster_run.run_id
                if seen.reported.get(asset) != run_id:
                    seen.reported[asset] = run_id
                    why = failures.of_run(context.instance, run_id)
                    notes.append(f"{asset} failed {failed} times and is left alone")
                    context.log.error(
                        f"{asset} failed {failed} times, last in run {run_id}, and is left alone "
                        f"until versions change or somebody materializes it: {why}"
                    )
            elif last and failed and (left := _ended(last) + PAUSES[failed - 1] - time.time()) > 0:
                notes.append(f"{asset} failed, attempt {failed + 1} in {left:.0f} s")
            else:
                due.append(key)
                tags[ATTEMPT.format(asset)] = f"{failed + 1} {origin}"
        requests = [dg.RunRequest(asset_selection=due, tags=tags)] if due else []
        quiet = "nothing more to ask for" if seen.reported else "all is fresh"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if due else "; ".join(notes) or quiet,
            cursor=json.dumps(dataclasses.asdict(seen)),
        )

    return keep_fresh


@dataclass(frozen=True)
class Seen:
    """What the sensor remembers from tick to tick, as its cursor: by asset, a run id.

    Attributes
    ----------
    fresh_after : dict
        The asset's last run when it was last seen fresh.
    reported : dict
        The run with which it was given up, and reported.
    """

    fresh_after: dict[str, str] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)


def _last_runs(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> dict[dg.AssetKey, dg.RunRecord]:
    """Return, by asset, the newest run that made it or was to make it."""
    last = {
        record.asset_entry.asset_key: record.asset_entry.last_run_id
        for record in instance.get_asset_records(list(keys))
    }
    wanted = [run_id for run_id in last.values() if run_id]
    records = instance.get_run_records(dg.RunsFilter(run_ids=wanted)) if wanted else []
    runs = {record.dagster_run.run_id: record for record in records}
    return {key: runs[run_id] for key, run_id in last.items() if run_id in runs}


def _newest_attempt(
    instance: dg.DagsterInstance, last: dg.RunRecord | None, asset: str, origin: str
) -> dg.RunRecord | None:
    """Return the sensor's newest attempt to make the asset from this, if nobody ran it since.

    The schedule is nobody. A run that was executed again is somebody's, whatever its tags say.
    """
    if last is None:
        return None
    run, tag = last.dagster_run, ATTEMPT.format(asset)
    values = [f"{number} {origin}" for number in range(1, len(PAUSES) + 2)]
    if run.tags.get(tag) in values and run.parent_run_id is None:
        return last
    if run.tags.get(TRIGGER, "").startswith("schedule") and not run.is_success:
        found = instance.get_run_records(dg.RunsFilter(tags={tag: values}), limit=1)
        return found[0] if found else None
    return None


def _failed_attempts(last: dg.RunRecord, asset: str, seen: Seen) -> int:
    """Return the attempt's number, which is how many failed in a row; 0 if it did not.

    One that ended well but left the asset not fresh has failed too.
    """
    run = last.dagster_run
    if run.is_success and seen.fresh_after.get(asset) == run.run_id:
        return 0
    return int(run.tags[ATTEMPT.format(asset)].split()[0])


def _ended(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()
