"""What Dagster recorded: materializations, with their versions, files and inputs."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import dagster as dg

from . import _dagster
from .store import Artifact, Store

_INPUT = "dagster/input_data_version/"
INTACT = "file_is_intact"
"""Name of the check that a file has its recorded size and digest."""

_BY_DAGSTER = {
    "dagster/schedule_name": "schedule {}",
    "dagster/sensor_name": "sensor {}",
    "dagster/backfill": "backfill {}",
    "dagster/from_ui": "the UI",
}


@dataclass(frozen=True)
class Materialization:
    """A materialization that Dagster recorded.

    `storage_id` is its place in the event log, `timestamp` is in seconds since 1970, `metadata`
    holds Dagster's metadata values, `inputs` the data version of each direct input, `trigger` is
    what started its run, as far as `events` looked that up.
    """

    key: dg.AssetKey
    data_version: str | None
    code_version: str | None
    storage_id: int
    run_id: str
    timestamp: float
    metadata: Mapping[str, Any]
    inputs: Mapping[dg.AssetKey, str]
    trigger: str | None = None

    @classmethod
    def of(cls, record: dg.EventLogRecord) -> "Materialization":
        """Read a record that is known to hold a materialization."""
        event = cast("dg.AssetMaterialization", record.asset_materialization)
        tags = event.tags or {}
        inputs = {
            dg.AssetKey.from_user_string(name.removeprefix(_INPUT)): version
            for name, version in tags.items()
            if name.startswith(_INPUT)
        }
        return cls(
            event.asset_key,
            tags.get("dagster/data_version"),
            tags.get("dagster/code_version"),
            record.storage_id,
            record.run_id,
            record.timestamp,
            event.metadata,
            inputs,
        )

    @property
    def asset(self) -> str:
        """The key as text."""
        return self.key.to_user_string()

    @property
    def reused_from(self) -> str | None:
        """The run that computed it, where that is another one."""
        run_id: str | None = self.value("reused_from")
        return run_id

    def value(self, name: str) -> Any:
        """Return a plain value of the metadata, or None."""
        found = self.metadata.get(name)
        return found.value if found else None

    def artifact(self, store: Store) -> Artifact | None:
        """Return the file in the metadata, or None."""
        filename, size, sha256 = map(self.value, ("file", "size_bytes", "sha256"))
        if not (self.data_version and filename and sha256) or size is None:
            return None
        return store.artifact(self.asset, sha256, filename, size)


def artifact_metadata(artifact: Artifact) -> dict[str, dg.MetadataValue[Any]]:
    """Return what a materialization records of its file; `Materialization.artifact` reads it."""
    return {
        "path": dg.MetadataValue.path(str(artifact.path)),
        "file": dg.MetadataValue.text(artifact.filename),
        "size_bytes": dg.MetadataValue.int(artifact.size),
        "sha256": dg.MetadataValue.text(artifact.sha256),
    }


def all_of(
    instance: dg.DagsterInstance, wanted: dg.AssetKey | dg.AssetRecordsFilter, limit: int = 1
) -> Iterator[Materialization]:
    """Yield all materializations of an asset, newest first; the first query is for so many."""
    cursor = None
    while True:
        found = instance.fetch_materializations(wanted, limit=limit, cursor=cursor)
        yield from map(Materialization.of, found.records)
        if not found.has_more:
            return
        cursor, limit = found.cursor, min(10 * limit, 1000)


def recent(instance: dg.DagsterInstance, key: dg.AssetKey, limit: int) -> list[Materialization]:
    """Return the newest `limit` materializations of an asset, newest first."""
    return list(itertools.islice(all_of(instance, key, limit), limit))


def newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Materialization | None:
    """Return the newest materialization of an asset, or None."""
    return next(all_of(instance, key), None)


def at(instance: dg.DagsterInstance, key: dg.AssetKey, storage_id: int) -> Materialization | None:
    """Return the materialization at a place in the event log, or None if it was deleted."""
    return next(all_of(instance, dg.AssetRecordsFilter(key, storage_ids=[storage_id])), None)


def deleted(indexed: dg.EventLogRecord | None, found: Materialization | None) -> str | None:
    """Return the run that was deleted with an asset's newest materialization, or None.

    `indexed` is the last one in Dagster's index of assets, which keeps what was deleted; `found` is
    the newest that is left.
    """
    if indexed and (found is None or found.storage_id < indexed.storage_id):
        return indexed.run_id
    return None


def with_version(
    instance: dg.DagsterInstance, store: Store, key: dg.AssetKey, version: str
) -> Materialization | None:
    """Return the newest materialization with a data version whose file is in the store, or None."""
    for found in all_of(instance, key):
        if found.data_version == version:
            artifact = found.artifact(store)
            if artifact and store.size(artifact) == artifact.size:
                return found
    return None


def events(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], limit: int, trigger_tag: str
) -> list[Materialization]:
    """Return the newest materializations of some assets, newest first, with their triggers."""
    found = [one for key in keys for one in recent(instance, key, limit)]
    found = sorted(found, key=lambda one: one.storage_id, reverse=True)[:limit]
    run_ids = list({one.run_id for one in found})
    # an empty list is no filter
    runs = instance.get_run_records(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
    tags = {record.dagster_run.run_id: record.dagster_run.tags for record in runs}
    return [replace(one, trigger=_trigger(tags.get(one.run_id, {}), trigger_tag)) for one in found]


def _trigger(tags: Mapping[str, str], trigger_tag: str) -> str:
    if _dagster.RE_EXECUTED in tags:
        return "re-execution"  # the other tags are copies of the first run's
    if asked := tags.get(trigger_tag):
        return asked
    found = (text.format(tags[tag]) for tag, text in _BY_DAGSTER.items() if tag in tags)
    return next(found, "a dagster command")


def intact(key: dg.AssetKey) -> dg.AssetCheckKey:
    """Return the check that the file of an asset is intact."""
    return dg.AssetCheckKey(key, INTACT)


def found_damaged(made: Materialization, why: str) -> dg.AssetCheckEvaluation:
    """Return the failure of that check on a materialization, found by a step that read its file."""
    target = _dagster.CheckTarget(
        storage_id=made.storage_id, run_id=made.run_id, timestamp=made.timestamp
    )
    return dg.AssetCheckEvaluation(
        asset_key=made.key,
        check_name=INTACT,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=why,
        target_materialization_data=target,
    )


def check_result(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, version: str | None
) -> dg.AssetCheckEvaluation | None:
    """Return a check's newest result on a data version, whichever materialization it was of.

    A failure that only warns neither refuses nor lifts a refusal: it counts if there is no other.
    """
    warned = None
    for result in _dagster.check_results(instance, check):
        target = result.target_materialization_data
        checked = at(instance, check.asset_key, target.storage_id) if target else None
        if checked and checked.data_version == version:
            if result.passed or result.severity == dg.AssetCheckSeverity.ERROR:
                return result
            warned = warned or result
    return warned
