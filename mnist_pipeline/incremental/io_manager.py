"""The one IO manager: publishes values to the store, reads them by recorded provenance."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import dagster as dg

from mnist_pipeline.assets.codecs import CODECS, loaded
from mnist_pipeline.incremental import _dagster, partitions, runs
from mnist_pipeline.incremental.code_version import MADE_WITH
from mnist_pipeline.incremental.errors import FormatError, HistoryError, StoreError
from mnist_pipeline.incremental.records import artifact_metadata, artifact_of, newest
from mnist_pipeline.incremental.store import Store

_HISTORY = 1000


class ArtifactIOManager(dg.IOManager):
    """Files each asset's value in the store under the digest of its content.

    A step reads the version of its input that Dagster records as provenance, and only after the
    file's size and digest were found to be those in that version's materialization event.

    Parameters
    ----------
    store : Store
    blocking : collection of AssetCheckKey
        Checks whose refusal keeps a version from ever being read.
    confirms : collection of callable
        Called before each publication; they raise HistoryError where none is allowed any more.
    """

    def __init__(
        self,
        store: Store,
        blocking: Collection[dg.AssetCheckKey],
        confirms: Collection[Callable[[], None]] = (),
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._confirms = confirms

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish the value and set the asset's data version to the digest of its content."""
        asset = context.asset_key.to_user_string()
        codec = CODECS[asset]
        version = obj.data_version

        def is_known(sha256: str) -> bool:
            made = newest(context.step_context.instance, context.asset_key, _HISTORY)
            artifacts = [artifact_of(self._store, asset, one) for one in made]
            return any(
                one and one.data_version == version and one.sha256 == sha256 for one in artifacts
            )

        try:
            for confirm in self._confirms:
                confirm()
            artifact = self._store.publish(
                asset, version, codec.filename(obj), codec.dumps(obj), is_known
            )
        except (StoreError, HistoryError) as error:
            raise _failure(str(error)) from error
        _dagster.declare_output(context, artifact.data_version)
        recipe = context.asset_spec.metadata[MADE_WITH]
        context.add_output_metadata(artifact_metadata(artifact) | {MADE_WITH: recipe})

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the version that is recorded as the step's input.

        Raises
        ------
        dagster.Failure
            The input was never materialized, is gone, damaged, or was refused by a check; the
            message names the asset to materialize.
        """
        key = context.asset_key
        asset = key.to_user_string()
        partitioned = context.has_asset_partitions
        recorded = (partitions if partitioned else _dagster).of_input(context)
        if recorded is None:
            raise _failure(f"{asset} was never materialized: materialize {asset} first.")
        checks = [check for check in self._blocking if check.asset_key == key]
        instance = _dagster.instance_of(context)
        # a check reads what it judges: only so can it lift its own refusal
        refused = (
            {}
            if _dagster.is_check(context)
            else _dagster.refusals(instance, recorded.data_version, checks)
        )
        if refused:
            raise _failure(
                f"{asset} {recorded.data_version} was refused by {', '.join(refused)} and is never "
                f"an input: mend the cause and materialize {asset} again."
            )
        artifact = artifact_of(self._store, asset, recorded)
        if artifact is None:
            raise _failure(
                f"the newest materialization of {asset} was not made by this pipeline and names no "
                f"artifact: materialize {asset}."
            )
        try:
            return loaded(self._store, artifact)
        except (StoreError, FormatError) as error:
            raise _failure(str(error)) from error


def artifact_io_manager(
    store: Store, blocking: Collection[dg.AssetCheckKey], job: str, assets: Collection[dg.AssetKey]
) -> dg.IOManagerDefinition:
    """Define the IO manager; whoever opens it for a run says that the run is his.

    A run of everything, of `job` as a whole or of all `assets`, has the store's refresh lock.
    """

    # Dagster takes a generator here too, and ends it with the run
    @dg.io_manager(config_schema={})  # type: ignore[arg-type]
    def opened(context: dg.InitResourceContext) -> Iterator[ArtifactIOManager]:
        with contextlib.ExitStack() as stack:
            confirms: list[Callable[[], None]] = []
            if (run := context.run) and (instance := context.instance):
                instance.add_run_tags(run.run_id, runs.owner(instance, store, run.run_id))
                confirms.append(partial(runs.confirm, instance, run.run_id))
                selected = run.asset_selection or (assets if run.job_name == job else ())
                if set(selected) == set(assets) and context.log:
                    in_turn = runs.in_turn(instance, run.run_id, store, context.log.info)
                    confirms.append(stack.enter_context(in_turn))
            yield ArtifactIOManager(store, blocking, confirms)

    return opened


def _failure(description: str) -> dg.Failure:
    return dg.Failure(description, allow_retries=False)
