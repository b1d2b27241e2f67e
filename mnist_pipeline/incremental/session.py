"""A pipeline opened in one process: what the command line, notebooks and tests do with it."""

import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from . import _dagster, history, retention, runs, sqlite, status
from .errors import SettingsError
from .history import Materialization
from .locks import locks_of
from .results import REUSED_FROM
from .runs import Report
from .status import AssetStatus
from .store import Artifact, Garbage

if TYPE_CHECKING:
    from .pipeline import Pipeline


@dataclass(frozen=True)
class RunResult:
    """What a run did."""

    run_id: str | None
    """None where there was nothing to do, and no run."""
    computed: list[str]
    """Keys of the computed assets, in order."""
    reused: list[str]
    error: str | None
    """What failed."""
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By materialized asset, the plain values of its metadata."""
    fresh: list[str] = field(default_factory=list)
    """Of a refresh: keys of the assets that are up to date now."""
    trace: str | None = None
    """The tracebacks of what failed."""

    @property
    def success(self) -> bool:
        """Whether nothing failed."""
        return self.error is None


@dataclass(frozen=True)
class Session:
    """A pipeline and its Dagster instance; `Pipeline.session` opens one.

    `report` is called with messages about the progress.
    """

    pipeline: "Pipeline"
    instance: dg.DagsterInstance
    report: Report = lambda text: None

    def status(self, *, verify: bool = False) -> dict[dg.AssetKey, AssetStatus]:
        """Return the state of each asset, upstream before downstream.

        With `verify`, every file is read and its digest compared with the recorded one.
        """
        engine, keys = self.pipeline.engine, self.pipeline.keys
        return status.assess(engine, self.instance, keys, verify=verify)

    def local_sizes(self, statuses: Mapping[dg.AssetKey, AssetStatus]) -> dict[str, int] | None:
        """Return artifacts' sizes by path if all are up to date and on this machine, or None."""
        pipeline = self.pipeline
        is_local = isinstance(pipeline.store.root, Path) and _dagster.is_sqlite_in(
            self.instance, pipeline.home
        )
        if not is_local or any(one.status != "fresh" for one in statuses.values()):
            return None
        return {path: size for one in statuses.values() for path, size in one.sizes.items()}

    def plan(self, statuses: Mapping[dg.AssetKey, AssetStatus]) -> list[str]:
        """Return what `refresh` materializes: what is not up to date, and all downstream of it."""
        return [key.to_user_string() for key in status.outdated(self.pipeline.engine, statuses)]

    def refresh(self, *, verify: bool = False, trigger: str = "refresh") -> RunResult:
        """Materialize what is not up to date and all downstream of it, in one run, or in none.

        Refreshes of one store run one after another, and each waits for the runs in progress.
        """
        done = RunResult(None, [], [], None)
        try:
            with self.alone(self.pipeline.keys):
                statuses = self.status(verify=verify)
                if wanted := status.outdated(self.pipeline.engine, statuses):
                    done = self.run(wanted, trigger=trigger)
                    statuses = self.status()
        except KeyboardInterrupt:
            done, statuses = replace(done, error=runs.INTERRUPTED), self.status()
        problems = [
            f"{key.to_user_string()} is {one.status}: {'; '.join(one.causes)}"
            for key, one in statuses.items()
            if one.status != "fresh"
        ]
        fresh = [key.to_user_string() for key, one in statuses.items() if one.status == "fresh"]
        return replace(done, error=done.error or "\n".join(problems) or None, fresh=fresh)

    def unfinished(self) -> list[dg.DagsterRun]:
        """Return the unfinished runs, oldest first; those of dead processes are marked failed."""
        return runs.unfinished(self, self.pipeline.engine.assets)

    @contextmanager
    def alone(self, assets: Collection[dg.AssetKey]) -> Iterator[None]:
        """Hold the lock of the store's refresh while no run on these assets is in progress."""
        waiting = partial(self.report, "another refresh is in progress: waiting for it")
        with locks_of(self.instance, self.pipeline.store).hold("refresh", waiting):
            runs.wait(self, assets)
            yield

    def run(
        self,
        assets: Collection[dg.AssetKey] | None = None,
        *,
        trigger: str = "run",
        force: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> RunResult:
        """Materialize assets, by default all that `refresh` knows, in a run in this process.

        `trigger` is what started the run, as the history shows it; `tags` are further tags of it.
        With `force`, all is computed, nothing reused. Raises KeyboardInterrupt if the run was
        interrupted.
        """
        pipeline, run_id = self.pipeline, str(uuid.uuid4())
        wanted = set(pipeline.keys if assets is None else assets)
        name = next((name for name, keys in pipeline.jobs.items() if wanted <= keys), None)
        job = _dagster.job_of(pipeline.definitions, name)
        origin = pipeline.module, pipeline.name
        all_tags = {
            **(tags or {}),
            pipeline.engine.trigger_tag: trigger,
            **({pipeline.engine.force_tag: "true"} if force else {}),
            # a command reports the failure itself
            runs.MAX_RETRIES: "0",
            **runs.owner(self.instance, pipeline.store, run_id),
        }
        with sqlite.kept_open(pipeline.home):
            success, events = _dagster.execute(self.instance, job, origin, run_id, assets, all_tags)
        self.prune(dry_run=False)
        if not success and runs.was_interrupted(self.instance, run_id):
            raise KeyboardInterrupt
        made = {
            one.asset_key.to_user_string(): {k: v.value for k, v in one.metadata.items()}
            for one in events
        }
        return RunResult(
            run_id,
            [key for key, values in made.items() if REUSED_FROM not in values],
            [key for key, values in made.items() if REUSED_FROM in values],
            None if success else runs.why_failed(self.instance, run_id),
            made,
            trace=None if success else runs.tracebacks(self.instance, run_id),
        )

    def select(self, selection: str) -> list[dg.AssetKey]:
        """Return the assets that a Dagster asset selection names, sorted.

        Raises SettingsError if it is not a selection, or selects nothing.
        """
        try:
            keys = _dagster.select(self.pipeline.definitions, selection)
        except (dg.DagsterError, NotImplementedError) as error:
            raise SettingsError(f"{selection!r} is not an asset selection: {error}") from None
        # what is computed on request alone, only where nothing else is selected
        if not (keys := keys & set(self.pipeline.keys) or keys & set(self.pipeline.engine.assets)):
            known = ", ".join(sorted(key.to_user_string() for key in self.pipeline.keys))
            raise SettingsError(f"{selection!r} selects nothing; the assets are {known}")
        return sorted(keys)

    def history(
        self, assets: Collection[dg.AssetKey] | None = None, limit: int = 20
    ) -> list[Materialization]:
        """Return the newest materializations, of all assets or of some, newest first."""
        keys = self.pipeline.engine.assets if assets is None else assets
        return history.events(self.instance, keys, limit, self.pipeline.engine.trigger_tag)

    def newest_file(self, asset: str) -> Artifact | None:
        """Return the file of an asset's newest materialization, or None."""
        made = history.newest(self.instance, dg.AssetKey.from_user_string(asset))
        return made.artifact(self.pipeline.store) if made else None

    def collect_garbage(self, *, keep: int, dry_run: bool = True) -> list[Garbage]:
        """Return the files that nothing points at; remove them unless it is a dry run.

        The newest `keep` materializations of each asset point at their files.
        """
        with nullcontext() if dry_run else self.alone(self.pipeline.engine.assets):
            return retention.collect(self, keep=keep, remove=not dry_run)

    def undefined(self) -> list[str]:
        """Return the recorded assets that the pipeline does not have any more, sorted."""
        recorded = set(self.instance.get_asset_keys()) - set(self.pipeline.engine.assets)
        return sorted(key.to_user_string() for key in recorded)

    def prune(self, *, dry_run: bool = True) -> list[str]:
        """Return the ids of old runs that nothing needs; delete them unless it is a dry run."""
        return retention.prune(self, remove=not dry_run)
