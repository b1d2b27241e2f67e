"""The check `file_is_intact` of every asset, and the job `verify` that runs only these."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from . import _dagster, history, status

if TYPE_CHECKING:
    from .pipeline import Pipeline

JOB = "verify"


def checks(pipeline: "Pipeline") -> dg.AssetChecksDefinition:
    """Define the check of every asset, one step for all of them."""
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


def job(pipeline: "Pipeline") -> _dagster.AssetJob:
    """Define the job that runs the check of every asset, and nothing else."""
    return dg.define_asset_job(
        JOB,
        dg.AssetSelection.checks(*map(history.intact, pipeline.keys)),
        description="Reads the file of every asset and checks that it is intact; computes nothing.",
    )
