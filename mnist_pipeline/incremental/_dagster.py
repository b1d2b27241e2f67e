"""Adapter for what Dagster keeps private: provenance, staleness, how definitions were loaded.

Everything here relies on internals of Dagster 1.13; no other module imports any.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.loader import LoadingContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.base import AssetRecord

Graph = BaseAssetGraph[Any]

_HISTORY = 10_000
_CARRIED = "mnist_pipeline"
_INPUT = "dagster/input_data_version/"


@dataclass(frozen=True)
class Recorded:
    """A materialization: its versions, its place in the event log, its metadata.

    `inputs` are the data versions that it was made from, by asset.
    """

    data_version: str | None
    code_version: str | None
    storage_id: int
    run_id: str
    timestamp: float
    metadata: Mapping[str, Any]
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, record: dg.EventLogRecord) -> "Recorded":
        """Read a record that is known to hold a materialization."""
        event = record.asset_materialization
        if event is None:
            raise TypeError(f"{record.storage_id} is no materialization")
        tags = event.tags or {}
        return cls(
            tags.get("dagster/data_version"),
            tags.get("dagster/code_version"),
            record.storage_id,
            record.run_id,
            record.timestamp,
            event.metadata,
            {k.removeprefix(_INPUT): v for k, v in tags.items() if k.startswith(_INPUT)},
        )


def of_input(context: dg.InputContext) -> Recorded | None:
    """Return the materialization that Dagster records as this input of the step, or None.

    It is fixed when the step starts: what is published later belongs to later steps. Outside of a
    run (`Definitions.load_asset_value`) it is the newest.
    """
    # InputContext.step_context raises where there is none
    if step := context._step_context:  # noqa: SLF001
        return _read_by(step, context.asset_key)
    return _materialization(context.instance, dg.AssetRecordsFilter(context.asset_key))


def is_check(context: dg.InputContext) -> bool:
    """Whether what reads the input is a check, which makes nothing."""
    step = context._step_context  # noqa: SLF001
    return bool(step and not step.get_output_asset_keys())


def instance_of(context: dg.InputContext) -> dg.DagsterInstance:
    """Return the instance that an input is recorded in, in a run or outside of one."""
    step = context._step_context  # noqa: SLF001
    return step.instance if step else context.instance


def inputs_of(context: dg.AssetExecutionContext) -> dict[str, Recorded | None]:
    """Return what is recorded of each input of the running step: the materialization it reads."""
    step = context.get_step_execution_context()
    keys = sorted(context.assets_def.asset_deps[context.asset_key])
    return {key.to_user_string(): _read_by(step, key) for key in keys}


def declare_output(context: dg.OutputContext, data_version: str) -> None:
    """Set the data version that the output's materialization will carry."""
    context.step_context.set_data_version(context.asset_key, dg.DataVersion(data_version))


def refusals(
    instance: dg.DagsterInstance,
    data_version: str | None,
    checks: Iterable[dg.AssetCheckKey],
) -> dict[str, str]:
    """Return the checks whose newest judgement of the data version is a refusal, and what they saw.

    A refusal is a failed blocking check with severity ERROR. It holds for every materialization
    of the version, until the same check passes on it.
    """
    found = {check.name: _refusal(instance, data_version, check) for check in checks}
    return {name: saw for name, saw in found.items() if saw is not None}


def failed_without_target(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, since: float
) -> dg.AssetCheckEvaluation | None:
    """Return the check's newest failure, if it is newer and what it judged was not materialized."""
    failed = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status={AssetCheckExecutionRecordStatus.FAILED}
    )
    for execution in failed:
        judged = execution.event.asset_check_evaluation if execution.event else None
        is_newer = execution.event is not None and execution.event.timestamp > since
        if judged and is_newer and judged.blocking and not judged.target_materialization_data:
            return judged
    return None


@dataclass(frozen=True)
class Change:
    """Why an asset is stale: its code version, an input's data version, or its list of inputs."""

    kind: Literal["CODE", "DATA", "DEPENDENCIES"]
    on: str | None
    reason: str


def changes(
    instance: dg.DagsterInstance, graph: Graph, keys: Iterable[dg.AssetKey]
) -> dict[dg.AssetKey, list[Change]]:
    """Ask Dagster's own resolver, whose answer the UI shows too, what made assets stale.

    It compares an asset's code version, its list of inputs and their data versions with its newest
    materialization. It is not transitive and never looks at the store.
    """
    loading = _Loading(instance)
    AssetRecord.prepare(loading, keys)  # one query instead of one a key
    resolver = CachingStaleStatusResolver(instance, graph, loading)
    return {
        key: [
            Change(
                cause.category.value,
                cause.dependency.asset_key.to_user_string() if cause.dependency else None,
                cause.reason,
            )
            for cause in resolver.get_stale_causes(key)
        ]
        for key in keys
    }


def carried(text: str) -> str | None:
    """Carry a text from the process that loads the definitions to the workers on its runs.

    Returns
    -------
    None in the process that loads them anew (a code server); in one that is given a run of its (a
    run worker), the text as it was there.
    """
    context = DefinitionsLoadContext.get()
    if context.load_type is DefinitionsLoadType.INITIALIZATION:
        context.add_to_pending_reconstruction_metadata(_CARRIED, text)
        return None
    found = context.reconstruction_metadata.get(_CARRIED)
    return None if found is None else str(found)


def forget_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run, its events and its logs."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # a file a run, which deleting its events only empties
        Path(storage.path_for_shard(run_id)).unlink(missing_ok=True)


class _Loading(LoadingContext):
    """What Dagster's loaders batch their queries in."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict[type, Any] = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[type, Any]:
        return self._loaders


def _refusal(
    instance: dg.DagsterInstance, data_version: str | None, check: dg.AssetCheckKey
) -> str | None:
    history = partial(
        instance.event_log_storage.get_asset_check_execution_history, check, limit=_HISTORY
    )
    for execution in history(status={AssetCheckExecutionRecordStatus.FAILED}):  # newest first
        judged = execution.event.asset_check_evaluation if execution.event else None
        is_error = judged is not None and judged.severity == dg.AssetCheckSeverity.ERROR
        if is_error and _version_judged(instance, judged) == data_version:
            break
    else:
        return None
    passed = any(
        _version_judged(instance, later.event.asset_check_evaluation) == data_version
        for later in history(status={AssetCheckExecutionRecordStatus.SUCCEEDED})
        if later.id > execution.id and later.event
    )
    return None if passed else (judged.description or "failed" if judged else "failed")


def _version_judged(
    instance: dg.DagsterInstance, judged: dg.AssetCheckEvaluation | None
) -> str | None:
    if judged is None or judged.target_materialization_data is None:
        return None
    found = _at(instance, judged.asset_key, judged.target_materialization_data.storage_id)
    return found.data_version if found else None


def _read_by(step: StepExecutionContext, key: dg.AssetKey) -> Recorded | None:
    info = step.maybe_fetch_and_get_input_asset_version_info(key)
    return _at(step.instance, key, info.storage_id) if info else None


def _at(instance: dg.DagsterInstance, key: dg.AssetKey, storage_id: int) -> Recorded | None:
    return _materialization(instance, dg.AssetRecordsFilter(key, storage_ids=[storage_id]))


def _materialization(
    instance: dg.DagsterInstance, wanted: dg.AssetRecordsFilter
) -> Recorded | None:
    records = instance.fetch_materializations(wanted, limit=1).records
    return Recorded.of(records[0]) if records else None
