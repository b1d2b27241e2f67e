"""What a failed run says to a person, and the sensor that logs it."""

import logging
from typing import Any

import dagster as dg

from mnist_pipeline.incremental import errors

_TELLING = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    # a run that did not come as far as its first step
    dg.DagsterEventType.ENGINE_EVENT,
}

INTERRUPTED = "interrupted"
_WORDLESS = "failed without a message"
_INTERRUPTED = dg.DagsterExecutionInterruptedError.__name__


def of_run(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return a line for each step that failed, or else why the run did.

    Each in the words of this project, or else of the innermost exception.
    """
    steps, run, otherwise = [], None, None
    for entry in instance.all_logs(run_id, of_type=_TELLING):
        event = entry.get_dagster_event()
        if event.is_step_failure:
            steps.append(f"{event.step_key}: {_of_step(event.step_failure_data)}")
        elif error := getattr(event.event_specific_data, "error", None):
            run = _innermost(error)
        elif int(entry.level) >= logging.ERROR:
            # the first to say so knows best: what follows is Dagster marking the run
            otherwise = otherwise or event.message
    return "\n".join(steps) or run or otherwise or _WORDLESS


@dg.run_failure_sensor(
    name="report_failure",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Logs one line for a failed run: the run, and each failed step with its error.",
)
def report_failure(context: dg.RunFailureSensorContext) -> None:
    """Log which run failed, where and why. No external service."""
    run = context.dagster_run
    why = of_run(context.instance, run.run_id).replace("\n", "; ")
    context.log.error(f"run {run.run_id} ({run.job_name}) failed: {why}")


def was_interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a signal ended the run in the middle of a step."""
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors_found = [entry.get_dagster_event().step_failure_data.error for entry in logs]
    return any(error and error.cls_name == _INTERRUPTED for error in errors_found)


def _of_step(failure: Any) -> str:
    if failure.user_failure_data and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    return _innermost(failure.error)


def _innermost(error: Any) -> str:
    """Return what this project, or else the innermost exception, said."""
    if error and error.cls_name == _INTERRUPTED:
        return INTERRUPTED
    found = None
    while error:
        found = error
        if hasattr(errors, error.cls_name or ""):
            break
        error = error.cause
    return found.message.split(": ", 1)[-1].strip() if found else _WORDLESS
