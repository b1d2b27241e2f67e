"""The pipeline opened in this process: its runs are tracked in the same instance as the UI's."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import dagster as dg
import sqlalchemy.exc
from filelock import FileLock

from mnist_pipeline import definitions
from mnist_pipeline.assets import experiments
from mnist_pipeline.incremental import failures, runs
from mnist_pipeline.incremental._dagster import Graph
from mnist_pipeline.incremental.errors import HistoryError, SettingsError
from mnist_pipeline.incremental.history import TRIGGER
from mnist_pipeline.incremental.instance import prepare
from mnist_pipeline.incremental.store import Store, open_store
from mnist_pipeline.settings import Settings


@dataclass(frozen=True)
class Opened:
    """The definitions, the job of all assets but the experiments', where its runs are tracked, and
    where its artifacts are.

    `changed` says what is no longer as it was when it was opened, or returns None.
    """

    definitions: dg.Definitions
    job: dg.JobDefinition
    instance: dg.DagsterInstance
    store: Store
    changed: Callable[[], str | None]

    @property
    def graph(self) -> Graph:
        """The assets, with the code versions of now."""
        return self.job.asset_layer.asset_graph


@contextlib.contextmanager
def opened() -> Iterator[Opened]:
    """Open the pipeline for the environment's settings.

    Runs whose process is gone are marked failed first, which it says.

    Raises
    ------
    SettingsError
        A setting or the params file is not allowed.
    HistoryError
        The disk with Dagster's history is full, its database damaged, or its server gone.
    """
    settings = Settings.load()
    built = _built(settings)
    everything = _job(settings)
    prepare(settings)
    try:
        with contextlib.ExitStack() as stack:
            # two processes that make Dagster's tables at once stumble over one another
            with _one_at_a_time(settings.dagster_home):
                instance = stack.enter_context(dg.DagsterInstance.get())
            graph = everything.asset_layer.asset_graph
            # a process that was killed could not say so
            say = partial(click.echo, err=True)
            keys = [*graph.get_all_asset_keys(), *experiments.KEYS]
            runs.unfinished(instance, [everything.name], keys, say)
            changed = partial(definitions.changed_since, graph, settings, Settings.load)
            yield Opened(
                built,
                everything,
                instance,
                open_store(settings.data_dir, locks=settings.dagster_home),
                changed,
            )
    except Exception as error:
        if said := _of_history(error, settings.dagster_home):
            raise HistoryError(said) from error
        raise


def _of_history(error: BaseException, home: Path) -> str | None:
    """Return what a person needs to know of an error of a database, or None if it is none."""
    while type(error).__name__ == "DagsterPostgresException" and error.__cause__:
        error = error.__cause__  # it tried several times
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return None
    why = " ".join(str(error.orig).split())
    if type(error.orig).__module__.startswith("psycopg2"):
        # names host and port, never the password
        return (
            f"Dagster's history in PostgreSQL cannot be used: {why}. Start the server or mend "
            f"{home / 'dagster.yaml'}, then try again; what was published is still there."
        )
    what = f"Dagster's history in {home}"
    if "locked" in why:
        return f"{what} is busy: {why}. Try again when less is at work on it."
    return (
        f"{what} cannot be used: {why}. Make room there or mend it, then try again; what was "
        "published is still there."
    )


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".opening.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise HistoryError(
            f"Dagster's history in {folder} cannot be written: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        lock.release()


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
    """Return the job of all assets, for the environment's settings."""
    return _job(Settings.load())


@cache
def _job(settings: Settings) -> dg.JobDefinition:
    # Dagster asks for it several times a run, and each time every source file would be read
    return _built(settings).resolve_job_def(definitions.RETRAIN_ALL)


@cache
def _built(settings: Settings) -> dg.Definitions:
    return definitions.build_definitions(settings)


def forget() -> None:
    """Let what is opened from now on see the params file as it is now."""
    _job.cache_clear()
    _built.cache_clear()


def materialize(select: str | None) -> Outcome:
    """Materialize a Dagster asset selection, or everything, in this process.

    Raises
    ------
    SettingsError
        A setting, the params file or the selection is not allowed.
    """
    with opened() as pipeline:
        # unlike execute_in_process, this does not keep every output in memory
        result = dg.execute_job(
            dg.reconstructable(job),
            pipeline.instance,
            run_config={"loggers": {"terminal": {}}},
            asset_selection=None if select is None else resolve(pipeline.graph, select),
            tags={
                TRIGGER: "mnist-pipeline run",
                **runs.owner(pipeline.instance, pipeline.store),
            },
        )
        error = None if result.success else failures.of_run(pipeline.instance, result.run_id)
    made = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    ]
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


def resolve(graph: Graph, select: str) -> list[dg.AssetKey]:
    """Return the assets that a Dagster asset selection names.

    Raises
    ------
    SettingsError
        It is none, or names nothing.
    """
    try:
        keys = dg.AssetSelection.from_string(select).resolve(graph)
    except (dg.DagsterError, NotImplementedError) as error:
        raise SettingsError(f"{select!r} is not an asset selection here: {error}") from None
    if not keys:
        known = ", ".join(sorted(key.to_user_string() for key in graph.get_all_asset_keys()))
        raise SettingsError(f"{select!r} selects nothing; the assets are {known}")
    return sorted(keys)
