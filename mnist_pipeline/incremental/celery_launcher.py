"""The launcher of runs on Celery workers, for `deploy/dagster.yaml`.

It adds to Dagster's own what is needed when a worker or the broker is gone.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_celery.launcher import (  # type: ignore[attr-defined]
    CeleryRunLauncher,
    CheckRunHealthResult,
    WorkerStatus,
)
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError

from . import _dagster, runs

PATIENCE_SECONDS = 45.0
"""How long a launch waits for broker and workers before the run goes back to the queue, at most."""

_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 2.0


class WorkerRunLauncher(CeleryRunLauncher):
    """Launches each run as a Celery task; configured as dagster-celery's `CeleryRunLauncher`.

    The lock of the run's process shows whether it is alive: Celery does not notice that a whole
    worker was killed. No result backend is needed.
    """

    def launch_run(self, context: Any) -> None:
        """Hand the run to the broker, once a worker listens there.

        If none does for a while, the run goes back to the queue.
        """
        run, instance = context.dagster_run, self._instance
        # the daemon gives up a run that takes longer to start
        patience = min(PATIENCE_SECONDS, (_dagster.start_timeout(instance) or 180) / 2)
        end = time.monotonic() + patience
        if why := self._obstacle(run):
            _dagster.add_engine_event(instance, run, f"{why} The run waits.")
        while why:
            time.sleep(_POLL_SECONDS)
            if not self._is_starting(run):
                return
            if time.monotonic() > end:
                self._back_to_queue(run, why)
                return
            why = self._obstacle(run)
        try:
            with _answering(self.celery):
                super().launch_run(context)
        except OperationalError as error:
            self._back_to_queue(run, self._no_broker(error))

    def _back_to_queue(self, run: dg.DagsterRun, why: str) -> None:
        if self._is_starting(run):
            message = f"{why} The run goes back to the queue."
            _dagster.add_engine_event(self._instance, run, message)
            _dagster.enqueue(self._instance, run)

    def _is_starting(self, run: dg.DagsterRun) -> bool:
        now = self._instance.get_run_by_id(run.run_id)
        return now is not None and now.status is dg.DagsterRunStatus.STARTING

    def _obstacle(self, run: dg.DagsterRun) -> str | None:
        """Return why no worker would take a run, or None."""
        queue = str(run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue))
        try:
            with _answering(self.celery):
                if self._is_listened_to(queue):
                    return None
        except OperationalError as error:
            return self._no_broker(error)
        return f"No worker listens on queue {queue!r} of {self._at}: start one."

    def _is_listened_to(self, queue: str) -> bool:
        # the first answer is the quickest, and mostly enough
        for limit in (1, None):
            inspect = self.celery.control.inspect(timeout=_ANSWER_SECONDS, limit=limit)
            workers = (inspect.active_queues() or {}).values()
            if any(one["name"] == queue for queues in workers for one in queues):
                return True
        return False

    def _no_broker(self, error: Exception) -> str:
        why = " ".join(str(error).split())
        return f"The broker {self._at} does not answer ({why}): start it."

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether a run's process is dead; where that is not known, it counts as alive."""
        record = self._instance.get_run_record_by_id(run.run_id)
        if record and (why := runs.why_dead(self._instance, record)):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"{why}; what it finished stays")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Return None: without a result backend, dagster-celery's own would raise."""
        return None

    def terminate(self, run_id: str) -> bool:
        """Ask the worker's process to stop; then, or after a while, the run is canceled.

        Returns False where the run is over, no worker has it, or the broker is gone (see its log).
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            where = " ".join((runs.owner_of(run) or ())[:2])
            message = f"no worker has this run: stop its process (host and process id: {where})"
            _dagster.add_engine_event(self._instance, run, message)
            return False
        try:
            with _answering(self.celery):
                _dagster.mark_canceling(self._instance, run)
                return bool(super().terminate(run_id))
        except OperationalError as error:
            message = f"{self._no_broker(error)} The run's process cannot be asked to stop."
            _dagster.add_engine_event(self._instance, run, message)
            return False

    @property
    def _at(self) -> str:
        return str(self.celery.connection_for_write().as_uri())


@contextlib.contextmanager
def _answering(celery: Any) -> Iterator[None]:
    """Raise OperationalError where the broker does not answer: at once, Celery would try long."""
    with celery.connection_for_write() as connection:
        try:
            connection.connect()
            yield
        except connection.connection_errors as error:
            raise OperationalError(str(error)) from error
