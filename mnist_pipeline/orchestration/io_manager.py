"""The one IO manager: publishes values to the store, reads them by recorded provenance."""

from collections.abc import Collection
from typing import Any

import dagster as dg

from mnist_pipeline.errors import FormatError, StoreError
from mnist_pipeline.orchestration import provenance
from mnist_pipeline.orchestration.codecs import CODECS
from mnist_pipeline.store import Artifact, Store


class ArtifactIOManager(dg.IOManager):
    """Files each asset's value in the store under the digest of its content.

    A step reads the version of its input that Dagster records as provenance, and only after the
    file's size and digest were found to be those in that version's materialization event.

    Parameters
    ----------
    store : Store
    blocking : collection of AssetCheckKey
        Checks whose refusal keeps a version from ever being read.
    """

    def __init__(self, store: Store, blocking: Collection[dg.AssetCheckKey]) -> None:
        self._store = store
        self._blocking = blocking

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish the value and set the asset's data version to the digest of its content."""
        asset = context.asset_key.to_user_string()
        codec = CODECS[asset]
        artifact = self._store.publish(
            asset, obj.data_version, codec.filename(obj), codec.dumps(obj)
        )
        provenance.declare_output(context, artifact.data_version)
        context.add_output_metadata(artifact_metadata(artifact))

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
        recorded = provenance.of_input(context)
        if recorded is None:
            raise _failure(f"{asset} was never materialized: materialize {asset} first.")
        checks = [check for check in self._blocking if check.asset_key == key]
        if refused := provenance.refusals(context, recorded, checks):
            raise _failure(
                f"{asset} {recorded.data_version} was refused by {', '.join(refused)} and is never "
                f"an input: mend the cause and materialize {asset} again."
            )
        facts = [recorded.metadata.get(name) for name in ("file", "size_bytes", "sha256")]
        if recorded.data_version is None or not all(facts):
            raise _failure(
                f"the newest materialization of {asset} was not made by this pipeline and names no "
                f"artifact: materialize {asset}."
            )
        filename, size, sha256 = (fact.value for fact in facts if fact)
        try:
            data = self._store.read(asset, recorded.data_version, filename, size, sha256)
            return CODECS[asset].loads(data, filename)
        except (StoreError, FormatError) as error:
            raise _failure(str(error)) from error


def artifact_metadata(artifact: Artifact) -> dict[str, dg.MetadataValue]:
    """Return what a materialization records of its file; `load_input` reads it again."""
    return {
        "path": dg.MetadataValue.path(str(artifact.path)),
        "file": dg.MetadataValue.text(artifact.path.name),
        "size_bytes": dg.MetadataValue.int(artifact.size),
        "sha256": dg.MetadataValue.text(artifact.sha256),
    }


def _failure(description: str) -> dg.Failure:
    return dg.Failure(description, allow_retries=False)
