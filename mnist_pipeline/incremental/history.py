"""What was materialized, when, and what asked for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from mnist_pipeline.incremental._dagster import Recorded
from mnist_pipeline.incremental.records import newest

TRIGGER = "mnist_pipeline/trigger"
"""Tag of a run: what asked for it, where Dagster's own tags do not say."""

_BY_DAGSTER = {
    "dagster/schedule_name": "schedule {}",
    "dagster/sensor_name": "sensor {}",
    "dagster/backfill": "backfill {}",
    "dagster/from_ui": "the UI",
}


@dataclass(frozen=True)
class Made:
    """A materialization and what asked for it.

    Attributes
    ----------
    timestamp : float
        Seconds since 1970.
    accuracy : float or None
        On the test digits, 0-1, where the materialization says it.
    """

    asset: str
    timestamp: float
    data_version: str | None
    code_version: str | None
    trigger: str | None
    run_id: str
    accuracy: float | None


def history(instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey], limit: int) -> list[Made]:
    """Return the newest materializations of some assets, newest first, `limit` at the most."""
    found = [(key, made) for key in assets for made in newest(instance, key, limit)]
    found = sorted(found, key=lambda pair: pair[1].storage_id, reverse=True)[:limit]
    run_ids = [made.run_id for _, made in found]
    # an empty list is no filter
    runs = instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
    tags = {run.run_id: run.tags for run in runs}
    return [
        Made(
            key.to_user_string(),
            made.timestamp,
            made.data_version,
            made.code_version,
            trigger(tags.get(made.run_id, {})),
            made.run_id,
            _accuracy(made),
        )
        for key, made in found
    ]


def _accuracy(made: Recorded) -> float | None:
    found = made.metadata.get("accuracy")
    return float(found.value) if found and isinstance(found.value, int | float) else None


def trigger(tags: Mapping[str, str]) -> str | None:
    """Return what asked for a run, from its tags."""
    if "dagster/parent_run_id" in tags:
        return "re-execution"  # the other tags are copies of the first run's
    if asked := tags.get(TRIGGER):
        return asked
    return next((text.format(tags[tag]) for tag, text in _BY_DAGSTER.items() if tag in tags), None)
