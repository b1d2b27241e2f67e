"""Adapter for what Dagster keeps private: the versions it records as a step's provenance.

Everything here relies on Dagster 1.13's `StepExecutionContext` and event log storage; no other
module of the project may.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Recorded:
    """A materialization: its data version, its place in the event log, its metadata."""

    data_version: str
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
    for record in _instance(context).fetch_materializations(wanted, limit=1).records:
        if (event := record.asset_materialization) and event.tags:
            version = event.tags["dagster/data_version"]
            return Recorded(version, record.storage_id, event.metadata)
    return None


def declare_output(context: dg.OutputContext, data_version: str) -> None:
    """Set the data version that the output's materialization will carry."""
    context.step_context.set_data_version(context.asset_key, dg.DataVersion(data_version))


def refusals(
    context: dg.InputContext, recorded: Recorded, checks: Iterable[dg.AssetCheckKey]
) -> list[str]:
    """Return the names of the checks whose newest judgement of that version is a refusal.

    A refusal is a failed blocking check with severity ERROR. Judgements of other materializations
    do not count.
    """
    storage = _instance(context).event_log_storage
    refused = []
    for check in checks:
        for execution in storage.get_asset_check_execution_history(check, limit=25):
            judged = execution.event.asset_check_evaluation if execution.event else None
            target = judged.target_materialization_data if judged else None
            if judged and target and target.storage_id == recorded.storage_id:
                if not judged.passed and judged.severity == dg.AssetCheckSeverity.ERROR:
                    refused.append(check.name)
                break
    return refused


def _instance(context: dg.InputContext) -> dg.DagsterInstance:
    step = context._step_context  # noqa: SLF001
    return step.instance if step else context.instance
