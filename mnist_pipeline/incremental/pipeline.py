"""A pipeline: assets, what they depend on, and where they are kept. Becomes Dagster definitions."""

import inspect
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel

from . import _dagster, alerts, automation, code_version, history, runs, sqlite
from . import instance as dagster_instance
from .code_version import CodeVersion, Sources
from .engine import COMPUTED_WITH, Engine
from .errors import PipelineError
from .runs import Report
from .session import Session
from .steps import Asset
from .store import Store


@dataclass(frozen=True)
class Pipeline:
    """Assets that are recomputed only where something changed."""

    name: str
    """Name of the code location, and prefix of the run tags."""
    module: str
    """The Python module with the definitions, which the workspace loads."""
    assets: Sequence[Asset]
    """What `refresh` brings up to date."""
    store: Store
    """Where the values are."""
    home: Path
    """Dagster's home folder, where materializations are recorded."""
    inputs: Mapping[str, object] = field(default_factory=dict)
    """Params and settings, by the resource that steps require; they count for those steps."""
    resources: Mapping[str, object] = field(default_factory=dict)
    """Further resources, which do not count."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of resources, by name, for their pages in the UI; pydantic models have one."""
    on_request: Mapping[str, Sequence[Asset]] = field(default_factory=dict)
    """Assets that `refresh` leaves alone, such as experiments, by the job that materializes them.
    A job without assets is left out."""
    checks: Sequence[dg.AssetChecksDefinition] = ()
    """Further Dagster checks. A version that a blocking one refused is never read."""
    not_counted: Collection[str] = ()
    """Modules that only display values; they take no part in code versions."""
    cron: str | None = None
    """When the schedule runs `refresh`, UTC; no cron, no schedule."""
    schedule: str = "scheduled_refresh"
    """Name of the schedule."""
    current: "Callable[[], Pipeline] | None" = None
    """Returns the pipeline as it would be loaded now. Automation asks for nothing while it differs
    from what is loaded."""
    alerts: Sequence[str] = ()
    """URLs that alerts of failed runs and checks are sent to (`alerts.checked_address`)."""
    config: Path | None = None
    """A `dagster.yaml` for the home."""

    @property
    def keys(self) -> list[dg.AssetKey]:
        """Keys of the assets that `refresh` brings up to date."""
        return [asset.key for asset in self.assets]

    @property
    def jobs(self) -> dict[str, set[dg.AssetKey]]:
        """Keys of the assets that each job materializes."""
        on_request = {name: {one.key for one in made} for name, made in self.on_request.items()}
        return {name: set(self.keys) for name in (runs.REFRESH, runs.RECOMPUTE_ALL)} | on_request

    @property
    def _every(self) -> list[Asset]:
        return [*self.assets, *itertools.chain.from_iterable(self.on_request.values())]

    @cached_property
    def code_versions(self) -> Mapping[dg.AssetKey, CodeVersion]:
        """The code version of each asset, from the source as it is on disk now."""
        sources = Sources(self.not_counted)
        return {
            asset.key: CodeVersion(
                *sources.reached(asset.step.__module__, asset.file),
                {
                    name: code_version.plain(value)
                    for name, value in {**self.inputs, **asset.values}.items()
                    if name in asset.resources or name in asset.values
                },
            )
            for asset in self._every
        }

    @cached_property
    def engine(self) -> Engine:
        """What the steps share."""
        assets = {one.key: one for one in self._every}
        checks: dict[dg.AssetKey, list[dg.AssetCheckKey]] = {}
        for spec in [spec for one in self.checks for spec in one.check_specs]:
            if spec.blocking:
                checks.setdefault(spec.asset_key, []).append(spec.key)
        return Engine(self.name, self.store, self.home, assets, checks, self.code_versions)

    @cached_property
    def definitions(self) -> dg.Definitions:
        """What Dagster loads: assets, checks, jobs, schedule, sensors and resources.

        Raises SettingsError if the cron expression is not valid.
        """
        values = {**self.inputs, **self.resources}
        resources = {name: self._resource(name, value) for name, value in values.items()}
        refreshed = dg.AssetSelection.assets(*self.keys)
        # before the assets, whose freshness policy takes the expression as valid
        schedules = [automation.schedule(self, self.cron)] if self.cron else []
        refresh = dg.define_asset_job(
            runs.REFRESH,
            refreshed,
            description="Materializes all assets; computes only what changed, reuses the rest.",
        )
        recompute_all = dg.define_asset_job(
            runs.RECOMPUTE_ALL,
            refreshed,
            tags={self.engine.force_tag: "true"},
            description="Computes all assets again, whether anything changed or not.",
        )
        verify = dg.define_asset_job(
            automation.VERIFY,
            dg.AssetSelection.checks(*map(history.intact, self.keys)),
            description=(
                "Reads the file of every asset and checks that it is intact; computes nothing."
            ),
        )
        on_request = [
            dg.define_asset_job(
                name,
                dg.AssetSelection.assets(*self.jobs[name]),
                description=f"Materializes the {name}, which {runs.REFRESH} leaves alone.",
            )
            for name, assets in self.on_request.items()
            if assets
        ]
        return dg.Definitions(
            assets=[self._defined(one) for one in self._every],
            asset_checks=[*self.checks, automation.intact(self)],
            jobs=[refresh, recompute_all, verify, *on_request],
            schedules=schedules,
            sensors=[
                automation.keep_fresh(self, [refresh, verify]),
                *(automation.a_run_each(self, job) for job in on_request),
                *alerts.sensors(self),
            ],
            resources={**resources, "io_manager": self._resource("io_manager", self.engine)},
            loggers={"terminal": _dagster.terminal},
            # steps take seconds: a process each would cost more than they do
            executor=dg.in_process_executor,
        )

    def load(self) -> dg.Definitions:
        """Return the definitions for a code location.

        A code server keeps the definitions that it loaded, while its run workers import the code
        again. In a worker whose code versions or store differ from the code server's, each step
        fails. If loading failed instead, Dagster would launch the worker again.
        """
        _dagster.colour_logs_on_terminals_only(sys.stderr)
        now, here = self.versions, str(self.store.root)
        asked = _dagster.carried({"versions": now, "store": here})
        if asked:
            sqlite.keep_open_until_exit(self.home)
        if asked and asked["store"] != here:
            self.engine.stopped.append(
                f"the store is {here} where the run is to be executed, and {asked['store']} where "
                "it was asked for: let both be the same"
            )
        elif asked and (names := _differing(asked.get("versions", {}), now)):
            self.engine.stopped.append(
                f"the definitions of {names} changed since they were loaded: reload them, then "
                "launch the run again"
            )
        return self.definitions

    def changed(self) -> str | None:
        """Return what changed since this pipeline was loaded, or None."""
        if self.current is None:
            return None
        try:
            now = self.current()
            names = _differing(self.versions, now.versions)
        except (PipelineError, SyntaxError, ValueError, OSError) as error:
            return f"the definitions changed and do not load: {error}"
        if names:
            return f"the definitions of {names} changed"
        return None if now.settings == self.settings else "the settings changed"

    @property
    def versions(self) -> dict[str, str]:
        """The digest of each asset's code version, by the asset's name."""
        return {key.to_user_string(): one.digest for key, one in self.code_versions.items()}

    @property
    def settings(self) -> tuple[object, ...]:
        """What a change of settings changes."""
        # stores of the same root are equal
        resources = {name: one for name, one in self.resources.items() if one is not self.store}
        return str(self.store.root), self.home, self.cron, self.alerts, resources, self.keys

    @contextmanager
    def session(self, report: Report = lambda text: None) -> Iterator[Session]:
        """Open the pipeline in this process; its runs are recorded in the same home as the UI's.

        Runs whose process is dead are marked failed first. Raises SettingsError if the home cannot
        be used; HistoryError if the disk with Dagster's history is full, its database damaged, or
        its server gone.
        """
        with dagster_instance.opened(self.home, self.config) as instance:
            opened = Session(self, instance, report)
            opened.unfinished()
            yield opened

    def _resource(self, name: str, value: object) -> dg.ResourceDefinition:
        """Return a resource that no run's config can change: Dagster refuses such a config.

        Its page in the UI shows the type, the description and the value.
        """

        def effective(_: dg.InitResourceContext) -> Any:
            return value

        kind = type(value)
        effective.__module__, effective.__name__ = kind.__module__, kind.__qualname__
        own = (inspect.getdoc(kind) or "").partition("\n")[0]
        if isinstance(value, Engine):
            return dg.IOManagerDefinition(effective, config_schema={}, description=own)
        about = own if isinstance(value, BaseModel) else self.about.get(name, "")
        shown = json.dumps(value, indent=2, default=_as_json)
        text = f"{about}\n\n```\n{shown}\n```"
        return dg.ResourceDefinition(effective, config_schema={}, description=text)

    def _defined(self, asset: Asset) -> dg.AssetsDefinition:
        def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
            yield from self.engine.run_step(asset, context)

        version = self.code_versions[asset.key]
        defined = asset.define(compute, version.digest, {COMPUTED_WITH: asdict(version)})
        if not self.cron or asset.deps or asset.reuse:
            return defined
        # only what every tick materializes can be overdue
        policy = dg.FreshnessPolicy.cron(
            deadline_cron=self.cron, lower_bound_delta=timedelta(minutes=1)
        )
        return defined.map_asset_specs(lambda spec: dg.apply_freshness_policy(spec, policy))


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Name the assets whose code versions differ."""
    return ", ".join(
        sorted(key for key in before.keys() | now.keys() if now.get(key) != before.get(key))
    )


def _as_json(value: object) -> object:
    return code_version.plain(value) if isinstance(value, BaseModel) else str(value)
