"""The state of every asset, and why.

As in Dagster's UI, the code version, the list of inputs and the data versions of direct inputs
count. So do, beyond that, upstream assets, files, checks, deleted events and failed attempts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

import dagster as dg

from . import _dagster, history, results
from .engine import COMPUTED_WITH, Engine
from .errors import StoreError
from .history import Materialization
from .store import Artifact, Store, check

State = Literal["fresh", "stale", "waiting", "missing", "damaged", "refused"]


@dataclass(frozen=True)
class AssetStatus:
    """The state of one asset; all but `status` and `causes` are of its newest materialization."""

    status: State
    """`fresh`: up to date; `stale`: its code, params or a direct input changed, or its last attempt
    failed; `waiting`: only something upstream is not up to date; `missing`: never materialized, or
    its file is gone; `damaged`: its file is not what was recorded; `refused`: a blocking check
    refused it."""
    causes: list[str]
    """Empty where `fresh`."""
    data_version: str | None
    code_version: str | None
    path: str | None
    """Of its file."""
    storage_id: int | None
    """Its place in the event log."""
    sizes: Mapping[str, int]
    """Bytes by path, of its file and of those that it points at."""


def assess(
    engine: Engine,
    instance: dg.DagsterInstance,
    wanted: Collection[dg.AssetKey],
    *,
    verify: bool = False,
) -> dict[dg.AssetKey, AssetStatus]:
    """Return the state of assets, upstream before downstream.

    `wanted` must hold all that is upstream, too. With `verify`, every file is read and its digest
    compared with the recorded one; else only its size is.
    """
    graph = {key: engine.parents(key) for key in engine.assets}
    keys = [key for key in TopologicalSorter(graph).static_order() if key in wanted]
    # before the materializations: one that another run records meanwhile was not deleted
    records = instance.get_asset_records(keys)
    newest = {key: history.newest(instance, key) for key in keys}
    attempts = _attempts(instance, records, newest)
    assessment = _Assessment(engine, instance, newest, verify)
    statuses: dict[dg.AssetKey, AssetStatus] = {}
    for key in keys:
        upstream = [parent for parent in engine.parents(key) if parent in statuses]
        behind = [one for one in upstream if statuses[one].status != "fresh"]
        statuses[key] = assessment.status(key, attempts.get(key, []), behind)
    return statuses


def outdated(engine: Engine, statuses: Mapping[dg.AssetKey, AssetStatus]) -> list[dg.AssetKey]:
    """Return the assets that are not up to date, and all downstream of them."""
    wanted: list[dg.AssetKey] = []
    for key, one in statuses.items():
        if one.status != "fresh" or set(engine.parents(key)) & set(wanted):
            wanted.append(key)
    return wanted


@dataclass(frozen=True)
class _Assessment:
    engine: Engine
    instance: dg.DagsterInstance
    newest: Mapping[dg.AssetKey, Materialization | None]
    verify: bool

    def status(
        self, key: dg.AssetKey, attempts: list[str], behind: list[dg.AssetKey]
    ) -> AssetStatus:
        made = self.newest[key]
        artifacts = files_of(self.engine, self.instance, made) if made else []
        state: State
        state, causes = self._file(made, artifacts) if made else ("missing", [])
        outdated = self._changes(key, made) if made else []
        refused = self.engine.refusals(self.instance, key, made.data_version) if made else {}
        if outdated or state != "fresh":
            refused |= self._refused_last(key)
        outdated += attempts
        if state == "fresh":
            state = (
                "refused" if refused else "stale" if outdated else "waiting" if behind else "fresh"
            )
        causes += [f"refused by its check {name}: {why}" for name, why in refused.items()]
        causes += outdated
        if state == "waiting":
            names = ", ".join(one.to_user_string() for one in behind)
            causes = [f"upstream is not up to date: {names}"]
        return AssetStatus(
            state,
            causes or (["never materialized"] if state == "missing" else []),
            made.data_version if made else None,
            made.code_version if made else None,
            str(artifacts[0].path) if artifacts and artifacts[0] else None,
            made.storage_id if made else None,
            {str(one.path): one.size for one in artifacts if one},
        )

    def _file(
        self, made: Materialization, artifacts: Sequence[Artifact | None]
    ) -> tuple[State, list[str]]:
        """Return the state of the files of the newest materialization.

        What the check `file_is_intact` found last counts until the next materialization.
        """
        state, causes = state_of_files(self.engine.store, artifacts, verify=self.verify)
        if state == "fresh" and not self.verify:
            for result in _dagster.check_results(self.instance, history.intact(made.key), limit=1):
                target = result.target_materialization_data
                if not result.passed and target and target.storage_id == made.storage_id:
                    return "damaged", [result.description or "its file is not intact"]
        return state, causes

    def _changes(self, key: dg.AssetKey, made: Materialization) -> list[str]:
        """Return in what a materialization differs from what would be computed now."""
        engine, causes = self.engine, []
        parents = sorted(engine.assets[key].deps)
        now = engine.code_versions[key]
        if made.code_version != now.digest:
            causes += now.changes_since(made.value(COMPUTED_WITH)) or ["its code version changed"]
        for parent in parents:
            name = parent.to_user_string()
            if parent not in made.inputs:
                causes.append(f"it has a new input: {name}")
            elif (newer := self.newest.get(parent)) and newer.data_version != made.inputs[parent]:
                causes.append(f"{name} is newer")
        causes += [
            f"it no longer has the input {old.to_user_string()}"
            for old in sorted(made.inputs)
            if old not in parents
        ]
        causes += [
            f"its check {check.name} has no result on it"
            for check in engine.checks.get(key, ())
            if not history.check_result(self.instance, check, made.data_version)
        ]
        return causes

    def _refused_last(self, key: dg.AssetKey) -> dict[str, str]:
        """Return the step's own checks that refused, before publication, what it computed last.

        What is published gets results of all of them: one without a target is newer.
        """
        checks = [dg.AssetCheckKey(key, one.__name__) for one in self.engine.assets[key].blocking]
        return {
            check.name: result.description or "failed"
            for check in checks
            for result in _dagster.check_results(self.instance, check, limit=1)
            if not (result.passed or result.target_materialization_data)
        }


def files_of(
    engine: Engine, instance: dg.DagsterInstance, made: Materialization
) -> list[Artifact | None]:
    """Return the file of a newest materialization and those it points at; None not recorded."""
    points_at = engine.assets[made.key].points_at
    versions = points_at(instance) if points_at else {}
    pointed_at = [
        results.artifact_of(instance, engine.store, key, version)
        for key, several in versions.items()
        for version in sorted(several)
    ]
    return [made.artifact(engine.store), *pointed_at]


def state_of_files(
    store: Store, artifacts: Sequence[Artifact | None], *, verify: bool
) -> tuple[State, list[str]]:
    """Return the state of files, and why it is not `fresh`; only `verify` reads them."""
    if not artifacts:
        return "missing", ["never materialized"]
    for artifact in artifacts:
        if artifact is None:
            return "missing", ["its newest materialization was not made here and names no file"]
        size = store.size(artifact)
        if size is None:
            return "missing", [f"its file is gone from the store: {artifact.path}"]
        try:
            check(artifact, size)
            if verify:
                with store.local(artifact):
                    pass
        except StoreError as error:
            return "damaged", [str(error)]
    return "fresh", []


def _attempts(
    instance: dg.DagsterInstance,
    records: Sequence[_dagster.AssetRecord],
    newest: Mapping[dg.AssetKey, Materialization | None],
) -> dict[dg.AssetKey, list[str]]:
    """Return why assets are stale whose newest materialization was deleted or attempt failed."""
    found: dict[dg.AssetKey, list[str]] = {}
    for record in records:
        entry = record.asset_entry
        made, indexed = newest[entry.asset_key], entry.last_materialization_record
        if gone := history.deleted(indexed, made):
            found[entry.asset_key] = [f"its newest materialization was deleted with run {gone}"]
        elif made and (indexed is None or indexed.storage_id < made.storage_id):
            continue  # recorded since the entry was read
        elif entry.last_run_id and not (made and made.run_id == entry.last_run_id):
            last = instance.get_run_by_id(entry.last_run_id)
            if last and last.is_failure_or_canceled:
                why = f"the last run that was to compute it failed: {last.run_id}"
                found[entry.asset_key] = [why]
    return found
