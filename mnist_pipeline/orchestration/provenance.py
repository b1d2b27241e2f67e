"""Adapter for what Dagster keeps private: the versions it records as a step's provenance.

Everything here relies on Dagster 1.13's `StepExecutionContext` and event log storage; no other
module of the project may.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

_HISTORY = 10_000


@dataclass(frozen=True)
class Recorded:
    """A materialization: its data version, its place in the event log, its metadata."""

    data_version: str | None
    storage_id: int
    metadata: Mapping[str, Any]


def of_input(context: dg.InputContext) -> Recorded | None:
    """Return the materialization that Dagster records as this input of the step, or None.

    It is fixed when the step starts: what is published later belongs to later steps. Outside of a
    run (`Definitions.load_asset_value`) it is the newest.
    """
    wanted = dg.AssetRecordsFilter(context.asset_key)
    # InputContext.step_context raises where there is none
    if step := context._step_context:  # noqa: SLF001
        info = step.maybe_fetch_and_get_input_asset_version_info(context.asset_key)
        if info is None:
            return None
        wanted = dg.AssetRecordsFilter(context.asset_key, storage_ids=[info.storage_id])
    return _materialization(context, wanted)


def declare_output(context: dg.OutputContext, data_version: str) -> None:
    """Set the data version that the output's materialization will carry."""
    context.step_context.set_data_version(context.asset_key, dg.DataVersion(data_version))


def refusals(
    context: dg.InputContext, recorded: Recorded, checks: Iterable[dg.AssetCheckKey]
) -> list[str]:
    """Return the names of the checks whose newest judgement of the data version is a refusal.

    A refusal is a failed blocking check with severity ERROR. It holds for every materialization
    of the version, until the same check passes on it.
    """
    step = context._step_context  # noqa: SLF001
    if step and not step.get_output_asset_keys():
        return []  # a check reads what it judges: only so can it lift its own refusal
    return [check.name for check in checks if _refused(context, recorded, check)]


def _refused(context: dg.InputContext, recorded: Recorded, check: dg.AssetCheckKey) -> bool:
    storage = _instance(context).event_log_storage
    failed = storage.get_asset_check_execution_history(
        check, limit=_HISTORY, status={AssetCheckExecutionRecordStatus.FAILED}
    )
    for execution in failed:  # newest first, and rare
        judged = execution.event.asset_check_evaluation if execution.event else None
        is_error = judged is not None and judged.severity == dg.AssetCheckSeverity.ERROR
        if is_error and _version_judged(context, judged) == recorded.data_version:
            break
    else:
        return False
    passed = storage.get_asset_check_execution_history(
        check, limit=_HISTORY, status={AssetCheckExecutionRecordStatus.SUCCEEDED}
    )
    return not any(
        _version_judged(context, later.event.asset_check_evaluation) == recorded.data_version
        for later in passed
        if later.id > execution.id and later.event
    )


def _version_judged(context: dg.InputContext, judged: dg.AssetCheckEvaluation | None) -> str | None:
    if judged is None or judged.target_materialization_data is None:
        return None
    storage_id = judged.target_materialization_data.storage_id
    found = _materialization(
        context, dg.AssetRecordsFilter(judged.asset_key, storage_ids=[storage_id])
    )
    return found.data_version if found else None


def _materialization(context: dg.InputContext, wanted: dg.AssetRecordsFilter) -> Recorded | None:
    for record in _instance(context).fetch_materializations(wanted, limit=1).records:
        if event := record.asset_materialization:
            version = (event.tags or {}).get("dagster/data_version")
            return Recorded(version, record.storage_id, event.metadata)
    return None


def _instance(context: dg.InputContext) -> dg.DagsterInstance:
    step = context._step_context  # noqa: SLF001
    return step.instance if step else context.instance
