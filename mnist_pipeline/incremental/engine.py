"""How a step runs: its inputs are looked up, an earlier result is reused or a new one published."""

import inspect
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from . import _dagster, history, results, runs
from .check import CheckResult
from .code_version import CodeVersion
from .errors import PipelineError, StoreError
from .history import Materialization
from .instance import as_history_error
from .locks import Confirm, locks_of
from .results import REUSED_FROM, Earlier
from .steps import DETERMINISTIC, Asset, Decode, Result
from .store import DamagedError, Store

COMPUTED_WITH = "computed_with"
"""Metadata of an asset and of its materializations: source, libraries and inputs of the step."""


@dataclass(frozen=True)
class Engine(dg.IOManager):
    """What the steps of a pipeline share; for other assets, the IO manager that reads theirs.

    `checks` has, by asset, the blocking checks that are steps of their own, run after it; `stopped`
    is why this process must run no step, if it must not.
    """

    name: str
    store: Store
    home: Path
    assets: Mapping[dg.AssetKey, Asset]
    checks: Mapping[dg.AssetKey, list[dg.AssetCheckKey]]
    code_versions: Mapping[dg.AssetKey, CodeVersion]
    stopped: list[str] = field(default_factory=list)

    @property
    def force_tag(self) -> str:
        """Tag of a run in which nothing is reused."""
        return f"{self.name}/force"

    @property
    def trigger_tag(self) -> str:
        """Tag of a run that names what started it."""
        return f"{self.name}/trigger"

    def pointed_at(self, instance: dg.DagsterInstance) -> dict[dg.AssetKey, set[str]]:
        """Return, by asset, the data versions of earlier results that newest values need."""
        found: dict[dg.AssetKey, set[str]] = {}
        for points_at in [asset.points_at for asset in self.assets.values() if asset.points_at]:
            for key, versions in points_at(instance).items():
                found.setdefault(key, set()).update(versions)
        return found

    def parents(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """Return those direct inputs of an asset that are assets of this pipeline."""
        return [parent for parent in self.assets[key].deps if parent in self.assets]

    def refusals(
        self, instance: dg.DagsterInstance, key: dg.AssetKey, version: str | None
    ) -> dict[str, str]:
        """Return the checks whose newest result on a published data version refuses it, and why."""
        found = {
            check.name: history.check_result(instance, check, version)
            for check in self.checks.get(key, ())
        }
        return {
            name: result.description or "failed"
            for name, result in found.items()
            if result and not result.passed and result.severity == dg.AssetCheckSeverity.ERROR
        }

    def run_step(self, asset: Asset, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Run a step: the body of an asset.

        Other runs of the same step wait until the result is recorded, then find it.
        """
        waiting = partial(context.log.info, f"another run computes {asset.name}: waiting for it")
        if self.stopped:
            raise dg.Failure(self.stopped[0], allow_retries=False)
        try:
            with (
                as_history_error(self.home),
                locks_of(context.instance, self.store).hold(
                    f"step-{asset.name}", waiting
                ) as confirm,
            ):
                self._claim(context)
                # Dagster records what is yielded before it asks for more: under the lock
                yield self._result(asset, context, confirm)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    def _claim(self, context: dg.AssetExecutionContext) -> None:
        """Tag a run with this process as its owner."""
        instance, run_id = context.instance, context.run_id
        tags = runs.owner(instance, self.store, run_id)
        if context.get_tag(runs.OWNER) == tags[runs.OWNER]:
            return
        if context.has_tag(_dagster.RE_EXECUTED) and context.has_tag(self.trigger_tag):
            # a command started the first run: its tags were copied
            tags[self.trigger_tag] = "re-execution"
            tags[runs.MAX_RETRIES] = str(_dagster.max_retries(instance))
        _dagster.add_tags(instance, run_id, tags)

    def _result(
        self, asset: Asset, context: dg.AssetExecutionContext, confirm: Confirm
    ) -> dg.MaterializeResult[Any]:
        start = time.perf_counter()
        instance = context.instance
        read = self.inputs(asset, context)
        for made in read.values():
            self._stop_if_refused(instance, made)
        key = results.key_of(
            self.code_versions[asset.key].digest,
            {one: made.data_version for one, made in read.items()},
            asset.reads(context) if asset.reads else None,
        )
        earlier = results.find(instance, asset.key, key) if asset.reuse else None
        forced = (context.get_tag(self.force_tag) or "").lower() == "true"
        if earlier and not forced and self.is_usable(instance, asset.key, earlier):
            context.log.info(f"reused from run {earlier.run_id}")
            self._confirm(context, confirm)
            return self._recorded(asset, context, earlier, reused=True)
        result = self._computed(asset, context, read)
        checks = _enforced(asset, context, result)
        version = asset.codec.version(result.value)
        self._confirm(context, confirm)
        with asset.codec.encoded(result.value) as data:
            artifact = self.store.publish(asset.name, asset.codec.name_of(result.value), data)
        if asset.reuse:
            checks.append(_evaluation(asset, _same_again(earlier, version), blocking=False))
        metadata = {
            "seconds": time.perf_counter() - start,
            **result.metadata,
            **history.artifact_metadata(artifact),
            COMPUTED_WITH: context.assets_def.get_asset_spec(asset.key).metadata[COMPUTED_WITH],
        }
        # as Dagster makes metadata values of plain ones
        normal = dg.AssetMaterialization(asset.key, metadata=_readable(metadata)).metadata
        where = artifact.filename, artifact.sha256, artifact.size
        new = Earlier(version, *where, normal, checks, context.run_id)
        # before the event: a process that is killed in between loses nothing
        results.record(instance, asset.key, key if asset.reuse else results.NEWEST, new)
        return self._recorded(asset, context, new, reused=False)

    def _computed(
        self,
        asset: Asset,
        context: dg.AssetExecutionContext,
        read: Mapping[dg.AssetKey, Materialization],
    ) -> Result:
        values = {}
        for name, one in asset.inputs.items():
            try:
                values[name] = self._read(read[one], asset.decode.get(name))
            except DamagedError as error:
                # the input's status is `damaged` from now on: `refresh` computes it again
                context.log_event(history.found_damaged(read[one], str(error)))
                raise
        resources = {name: getattr(context.resources, name) for name in asset.resources}
        takes_context = "context" in inspect.signature(asset.step).parameters
        passed = {"context": context} if takes_context else {}
        result = asset.step(**passed, **values, **resources, **asset.values)
        return result if isinstance(result, Result) else Result(result)

    def inputs(
        self, asset: Asset, context: dg.AssetExecutionContext
    ) -> dict[dg.AssetKey, Materialization]:
        """Return what the step reads: the direct inputs that Dagster records as its provenance.

        Further upstream it reads what these were computed from.
        """
        direct: dict[dg.AssetKey, Materialization] = {}
        for key in sorted(set(asset.inputs.values()) - asset.upstream):
            place = _dagster.input_id(context, key)
            found = None if place is None else history.at(context.instance, key, place)
            direct[key] = _existing(key, found)
        return direct | self.further(context.instance, direct, asset.upstream)

    def further(
        self,
        instance: dg.DagsterInstance,
        direct: Mapping[dg.AssetKey, Materialization],
        wanted: frozenset[dg.AssetKey],
    ) -> dict[dg.AssetKey, Materialization]:
        """Return the materializations of the wanted assets that others were computed from.

        Raises StoreError if one is not recorded, or its file is gone.
        """
        found: dict[dg.AssetKey, Materialization | None] = {}
        waiting = list(direct.values())
        while waiting and wanted - found.keys():
            for key, version in waiting.pop(0).inputs.items():
                if key in self.assets and key not in direct and key not in found:
                    made = history.with_version(instance, self.store, key, version)
                    found[key] = made
                    waiting += [made] if made else []
        if any(not found.get(key) for key in wanted):
            # an input in between that is gone hides what is further upstream
            keys = [key for key, made in found.items() if made is None] or sorted(wanted)
            gone = [key.to_user_string() for key in keys]
            names, computed = ", ".join(gone), ", ".join(made.asset for made in direct.values())
            raise StoreError(
                f"{names}, which {computed} was computed from, is gone: materialize {names} and "
                "what is downstream of it."
            )
        return {key: made for key, made in found.items() if made and key in wanted}

    def load(self, instance: dg.DagsterInstance, made: Materialization) -> Any:
        """Read the value of a materialization.

        Raises PipelineError if it names no file, is gone, damaged, refused or cannot be decoded.
        """
        self._stop_if_refused(instance, made)
        return self._read(made)

    def _stop_if_refused(self, instance: dg.DagsterInstance, made: Materialization) -> None:
        if refused := ", ".join(self.refusals(instance, made.key, made.data_version)):
            raise StoreError(
                f"{made.asset} {made.data_version} was refused by {refused} and is never an input: "
                f"fix the cause, then materialize {made.asset} again."
            )

    def _read(self, made: Materialization, decode: Decode | None = None) -> Any:
        artifact = made.artifact(self.store)
        if artifact is None or made.data_version is None:
            raise StoreError(
                f"the newest materialization of {made.asset} was not made by this pipeline and "
                f"names no file: materialize {made.asset}."
            )
        codec = self.assets[made.key].codec
        if decode:
            codec = replace(codec, load=decode, open=None)
        return codec.read(self.store, artifact)

    def is_usable(self, instance: dg.DagsterInstance, key: dg.AssetKey, earlier: Earlier) -> bool:
        """Return whether a result may be reused: its file is intact, and no check refused it."""
        is_intact = self.store.is_intact(earlier.artifact(self.store, key))
        return is_intact and not self.refusals(instance, key, earlier.data_version)

    def _confirm(self, context: dg.AssetExecutionContext, confirm: Confirm) -> None:
        """Raise HistoryError if the lock was lost, or another process ended the run."""
        confirm()
        runs.confirm(context.instance, context.run_id)

    def _recorded(
        self,
        asset: Asset,
        context: dg.AssetExecutionContext,
        result: Earlier,
        *,
        reused: bool,
    ) -> dg.MaterializeResult[Any]:
        artifact = result.artifact(self.store, asset.key)
        metadata = {**result.metadata, **history.artifact_metadata(artifact)}
        if reused:
            # first: the list of a run's events shows only a few
            metadata = {REUSED_FROM: dg.MetadataValue.dagster_run(result.run_id), **metadata}
        selected = {key.name for key in context.selected_asset_check_keys}
        return dg.MaterializeResult(
            asset_key=asset.key,
            metadata=metadata,
            check_results=[
                dg.AssetCheckResult(
                    passed=one.passed,
                    check_name=one.check_name,
                    severity=one.severity,
                    description=one.description,
                    metadata=one.metadata,
                )
                for one in result.checks
                if one.check_name in selected
            ],
            data_version=dg.DataVersion(result.data_version),
        )

    # For assets that are not of this engine, and for notebooks

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse: values of other assets need an IO manager of their own."""
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} is declared without a codec: declare it with "
            "`incremental.asset`, or give it an io_manager_key of its own.",
            allow_retries=False,
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the version that is recorded as the input of a step or a check.

        Raises dagster.Failure, which names what to materialize, where that cannot be read.
        """
        key = context.asset_key
        instance, place, is_check = _dagster.input_of(context)
        try:
            found = (
                history.newest(instance, key) if place is None else history.at(instance, key, place)
            )
            made = _existing(key, found)
            # a check also reads what it refused: else it could never pass again
            return self._read(made) if is_check else self.load(instance, made)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from error


def _existing(key: dg.AssetKey, made: Materialization | None) -> Materialization:
    if made is None:
        name = key.to_user_string()
        raise StoreError(f"{name} was never materialized: materialize {name} first.")
    return made


def _enforced(
    asset: Asset, context: dg.AssetExecutionContext, result: Result
) -> list[dg.AssetCheckEvaluation]:
    """Return the results of the checks for Dagster.

    Raises dagster.Failure if a blocking one failed: it is recorded without a target.
    """
    blocking = {check.__name__ for check in asset.blocking} if result.enforce else set()
    found = [_evaluation(asset, one, blocking=one.name in blocking) for one in result.checks]
    failed = [one for one in found if one.blocking and not one.passed]
    if failed:
        for one in found:
            context.log_event(one)
        why = "; ".join(f"{one.check_name}: {one.description}" for one in failed)
        raise dg.Failure(f"{asset.name} is refused and not published. {why}", allow_retries=False)
    return found


def _evaluation(asset: Asset, check: CheckResult, *, blocking: bool) -> dg.AssetCheckEvaluation:
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckEvaluation(
        asset_key=asset.key,
        check_name=check.name,
        passed=check.passed,
        severity=severity,
        description=check.description,
        metadata=_readable(check.metadata),
        blocking=blocking,
    )


def _readable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as people read them: five digits of a number, long documents at the end."""
    rounded = {
        name: float(f"{value:.5g}") if isinstance(value, float) else value
        for name, value in metadata.items()
    }
    return dict(sorted(rounded.items(), key=lambda item: isinstance(item[1], dict | list)))


def _same_again(earlier: Earlier | None, version: str) -> CheckResult:
    """Compare a result with the earlier one under the same key."""
    if earlier is None:
        text = "computed once: there is no earlier result to compare it with"
    elif earlier.data_version == version:
        text = f"computed again with the same content as in run {earlier.run_id}"
    else:
        text = (
            f"computed again with other content: {version} now, {earlier.data_version} in run "
            f"{earlier.run_id}, from the same inputs, code and params. The step, a library or the "
            "machine is not deterministic; results downstream may differ."
        )
    return CheckResult(DETERMINISTIC, earlier is None or earlier.data_version == version, text)
