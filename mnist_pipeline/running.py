"""Runs started from this process: tracked in the same instance as the UI's, executed here."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from mnist_pipeline import definitions, errors, home
from mnist_pipeline.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run_id : str
    success : bool
    materialized : list of str
        Keys of the assets that the run materialized, in order.
    error : str or None
        What failed, for a person.
    metadata : dict
        For each of those assets, the plain values of its materialization's metadata.
    """

    run_id: str
    success: bool
    materialized: list[str]
    error: str | None
    metadata: dict[str, dict[str, Any]]


def job() -> dg.JobDefinition:
    """Return the job that materializes everything, for the environment's settings."""
    return definitions.build_definitions(Settings.load()).resolve_job_def(definitions.JOB)


def materialize(select: str | None) -> Outcome:
    """Materialize a Dagster asset selection, or everything, in this process.

    Raises
    ------
    SettingsError
        A setting, the params file or the selection is not allowed.
    """
    keys = _resolve(job(), select) if select is not None else None
    home.prepare(Settings.load())
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(job),
            instance,
            run_config={"loggers": {"terminal": {}}},
            asset_selection=keys,
        )
    made = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    ]
    failures = [
        f"{event.step_key}: {_message(event.step_failure_data)}"
        for event in result.get_step_failure_events()
    ]
    error = None if result.success else "\n".join(failures) or "the run was interrupted"
    return Outcome(
        run_id=result.run_id,
        success=result.success,
        materialized=[event.asset_key.to_user_string() for event in made],
        error=error,
        metadata={
            event.asset_key.to_user_string(): {k: v.value for k, v in event.metadata.items()}
            for event in made
        },
    )


def _resolve(everything: dg.JobDefinition, select: str) -> list[dg.AssetKey]:
    graph = everything.asset_layer.asset_graph
    try:
        keys = dg.AssetSelection.from_string(select).resolve(graph)
    except (dg.DagsterError, NotImplementedError) as error:
        raise errors.SettingsError(
            f"--select {select!r} is not an asset selection here: {error}"
        ) from None
    if not keys:
        known = ", ".join(sorted(key.to_user_string() for key in graph.get_all_asset_keys()))
        raise errors.SettingsError(f"--select {select!r} selects nothing; the assets are {known}")
    return sorted(keys)


def _message(failure: Any) -> str:
    """Return what this project, or else the innermost exception, said about a failed step."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    error, found = failure.error, None
    while error:
        found = error
        if hasattr(errors, error.cls_name or ""):
            break
        error = error.cause
    return found.message.split(": ", 1)[-1].strip() if found else "failed without a message"
