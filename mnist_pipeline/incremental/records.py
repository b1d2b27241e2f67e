"""What a materialization records of its file, written and read again. It opens no file."""

import dagster as dg

from mnist_pipeline.incremental._dagster import Recorded
from mnist_pipeline.incremental.store import Artifact, Store


def artifact_metadata(artifact: Artifact) -> dict[str, dg.MetadataValue]:
    """Return what a materialization records of its file; `artifact_of` reads it again."""
    return {
        "path": dg.MetadataValue.path(str(artifact.path)),
        "file": dg.MetadataValue.text(artifact.path.name),
        "size_bytes": dg.MetadataValue.int(artifact.size),
        "sha256": dg.MetadataValue.text(artifact.sha256),
    }


def artifact_of(store: Store, asset: str, recorded: Recorded) -> Artifact | None:
    """Return the artifact that a materialization names, or None if it names none."""
    facts = [recorded.metadata.get(name) for name in ("file", "size_bytes", "sha256")]
    if recorded.data_version is None or not all(facts):
        return None
    filename, size, sha256 = (fact.value for fact in facts if fact)
    path = store.root / asset / recorded.data_version / filename
    return Artifact(asset, recorded.data_version, path, size, sha256)


def newest(instance: dg.DagsterInstance, asset: dg.AssetKey, limit: int) -> list[Recorded]:
    """Return the newest materializations of an asset, newest first."""
    records = instance.fetch_materializations(asset, limit=limit).records
    return [Recorded.of(record) for record in records]
