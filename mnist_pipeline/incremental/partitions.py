"""What Dagster records of a partitioned asset, partition by partition. Adapter, as `provenance` is.

A step that depends on all partitions of an asset has one provenance for them: a digest of their
data versions, and the newest materialization of any of them.
"""

from collections.abc import Iterator, Mapping

import dagster as dg

from mnist_pipeline.incremental._dagster import Recorded

_PAGE = 1000


def read_by(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[str, Recorded]:
    """Return, by partition, the materializations that Dagster records as the step's input `key`.

    They are those of one moment: what is materialized meanwhile is either in both, in what is
    returned and in the provenance, or in neither.
    """
    step = context.get_step_execution_context()
    before = None
    while True:
        info = step.maybe_fetch_and_get_input_asset_version_info(key)
        ids = _newest_ids(context.instance, key)
        seen = info.storage_id if info else None, dict(ids)
        # of a run that was deleted, Dagster keeps the place of its materialization: nothing moves
        if max(ids.values(), default=None) == seen[0] or seen == before:
            return _at(context.instance, key, ids)
        before = seen
        # something was materialized between the two looks: look again, and record that look
        step.wipe_input_asset_version_info(key)


def newest(
    instance: dg.DagsterInstance, key: dg.AssetKey, which: set[str] | None = None
) -> dict[str, Recorded]:
    """Return, by partition, its newest materialization; of all partitions or of some."""
    return _at(instance, key, _newest_ids(instance, key, which))


def history(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, list[Recorded]]:
    """Return, by partition, all its materializations, newest first; also of partitions now gone."""
    found: dict[str, list[Recorded]] = {}
    for partition, made in _all(instance, dg.AssetRecordsFilter(key)):
        found.setdefault(partition, []).append(made)
    return found


def of_input(context: dg.InputContext) -> Recorded | None:
    """Return the newest materialization of the one partition that is to be read, or None.

    Raises
    ------
    dagster.Failure
        Several partitions are to be read at once.
    """
    partitions = context.asset_partition_keys
    if len(partitions) != 1:
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} can be read one partition at a time: this asks "
            f"for {len(partitions)}. Depend on it with `deps` and read what you need of it.",
            allow_retries=False,
        )
    wanted = dg.AssetRecordsFilter(context.asset_key, asset_partitions=list(partitions))
    records = context.instance.fetch_materializations(wanted, limit=1).records
    return Recorded.of(records[0]) if records else None


def _newest_ids(
    instance: dg.DagsterInstance, key: dg.AssetKey, which: set[str] | None = None
) -> Mapping[str, int]:
    """Return, by partition, where in the event log its newest materialization is."""
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, which
    )


def _at(
    instance: dg.DagsterInstance, key: dg.AssetKey, ids: Mapping[str, int]
) -> dict[str, Recorded]:
    if not ids:
        return {}  # an empty list is no filter
    wanted = dg.AssetRecordsFilter(key, storage_ids=list(ids.values()))
    found = {made.storage_id: made for _, made in _all(instance, wanted)}
    return {partition: found[place] for partition, place in ids.items() if place in found}


def _all(
    instance: dg.DagsterInstance, wanted: dg.AssetRecordsFilter
) -> Iterator[tuple[str, Recorded]]:
    cursor = None
    while True:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        for record in page.records:
            yield record.partition_key or "", Recorded.of(record)
        if not page.has_more:
            return
        cursor = page.cursor
