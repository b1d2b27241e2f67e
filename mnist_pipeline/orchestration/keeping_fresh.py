"""The sensor `keep_fresh`: it asks for what can be made now, until all is fresh.

Level-triggered: each tick looks at how everything stands, so no event can be missed. What was tried
is read from the tags of the assets' last runs.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping

import dagster as dg

from mnist_pipeline.errors import PipelineError
from mnist_pipeline.orchestration import failures, ownership, status
from mnist_pipeline.orchestration.provenance import Graph
from mnist_pipeline.orchestration.retraining import NAME as RETRAINING
from mnist_pipeline.store import Store

PAUSES = [10, 30, 90]
"""Seconds between a failed attempt and the next; after as many more attempts it is left alone."""

TICK_SECONDS = 10

ATTEMPT = "mnist_pipeline/attempt_{}"
"""Tag of a run, by asset: the number of the attempt, and what the asset would be made from."""


def keep_fresh_sensor(
    job_name: str,
    everything: Callable[[], dg.JobDefinition],
    store: Store,
    versions_on_disk: Callable[[], Mapping[str, str]],
) -> dg.SensorDefinition:
    """Define the sensor.

    Parameters
    ----------
    job_name, everything
        The job of all assets: its name, and a callable that returns it as it was loaded.
    store : Store
    versions_on_disk : callable
        Returns the code version of each asset as source, params and settings are now.
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
        if reason := _not_now(context.instance, graph, job_name, store, versions_on_disk):
            return dg.SkipReason(reason)
        standings = status.assess(graph, context.instance, store)
        last_runs = _last_runs(context.instance, keys)
        due: list[dg.AssetKey] = []
        tags: dict[str, str] = {}
        given_up: dict[str, str] = {}
        paused: list[str] = []
        for key in status.frontier(graph, standings):
            asset, origin = key.to_user_string(), standings[key].made_from
            failed, since = _failed_attempts(last_runs.get(key), asset, origin)
            if failed > len(PAUSES):
                given_up[f"{asset} {origin}"] = last_runs[key].dagster_run.run_id
            elif failed and (left := since + PAUSES[failed - 1] - time.time()) > 0:
                paused.append(f"{asset} failed, attempt {failed + 1} in {left:.0f} s")
            else:
                due.append(key)
                tags[ATTEMPT.format(asset)] = f"{failed + 1} {origin}"
        reported = json.loads(context.cursor or "[]")
        for what, run_id in given_up.items():
            if what not in reported:
                asset = what.split()[0]
                context.log.error(
                    f"{asset} failed {len(PAUSES) + 1} times, last in run {run_id}, and is left "
                    "alone until versions change or somebody materializes it: "
                    f"{failures.of_run(context.instance, run_id)}"
                )
                paused.append(f"{asset} failed {len(PAUSES) + 1} times and is left alone")
        requests = [dg.RunRequest(asset_selection=due, tags=tags)] if due else []
        quiet = "nothing more to ask for" if given_up else "all is fresh"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if due else "; ".join(paused) or quiet,
            cursor=json.dumps(sorted(given_up)),
        )

    return keep_fresh


def _not_now(
    instance: dg.DagsterInstance,
    graph: Graph,
    job_name: str,
    store: Store,
    versions_on_disk: Callable[[], Mapping[str, str]],
) -> str | None:
    """Return why nothing may be asked for in this tick, or None."""
    keys = graph.get_all_asset_keys()
    loaded = {key.to_user_string(): graph.get(key).code_version for key in keys}
    try:
        on_disk = versions_on_disk()
    except (PipelineError, SyntaxError) as error:
        return f"the definitions changed and do not load: {error}"
    if changed := sorted(asset for asset in loaded if loaded[asset] != on_disk.get(asset)):
        return f"the definitions of {', '.join(changed)} changed: reload them first"
    if others := ownership.unfinished(instance, [job_name, RETRAINING], keys):
        return f"run {others[0].run_id} is in progress on these assets"
    if ownership.is_refreshing(store):
        return "a refresh is at work on these assets"
    return None


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


def _failed_attempts(record: dg.RunRecord | None, asset: str, origin: str) -> tuple[int, float]:
    """Return how many attempts to make the asset from this failed in a row, and the last's end."""
    if record is None or record.dagster_run.is_success:
        return 0, 0.0
    number, _, was = record.dagster_run.tags.get(ATTEMPT.format(asset), "").partition(" ")
    if was != origin:
        return 0, 0.0  # somebody else's, or of other versions
    return int(number), record.end_time or record.update_timestamp.timestamp()
