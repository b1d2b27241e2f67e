"""Earlier results, by the key of what they were computed from.

They are in the key-value table of Dagster's database: tags of events cannot be searched. A result
stays there when the run that computed it is deleted, and goes when its file is collected.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from . import _dagster, history
from .digest import content_digest
from .store import Artifact, Store

_PREFIX = "incremental/results"

NEWEST = "newest"
"""The key of the newest result of an asset that is never reused: it outlives its events."""

REUSED_FROM = "reused_from"
"""Metadata of a materialization that reused a result: the run that computed it."""


@dataclass(frozen=True)
class Earlier:
    """A result that was computed and published.

    `metadata` holds Dagster's metadata values, as they were recorded; `run_id` is the run that
    computed it.
    """

    data_version: str
    filename: str
    sha256: str
    size: int
    metadata: Mapping[str, Any]
    checks: Sequence[dg.AssetCheckEvaluation]
    run_id: str

    def artifact(self, store: Store, key: dg.AssetKey) -> Artifact:
        """Return its file in a store."""
        return store.artifact(key.to_user_string(), self.sha256, self.filename, self.size)


def key_of(
    code_version: str,
    versions: Mapping[dg.AssetKey, str | None],
    reads: Mapping[str, object] | None = None,
) -> str:
    """Digest what a step's result depends on.

    `versions` are the data versions of all that is read, direct or further upstream, `reads` is
    what the asset declares besides.
    """
    read = {key.to_user_string(): version for key, version in versions.items()}
    # `partition` is always None: keys that were recorded with one are still found
    return content_digest(
        {"code_version": code_version, "read": read, "partition": None, "more": reads or {}}
    )


def find(instance: dg.DagsterInstance, asset: dg.AssetKey, key: str) -> Earlier | None:
    """Return the result with a key, or None."""
    text = _dagster.value(instance, _name(asset, key))
    return _decoded(text) if text else None


def with_version(
    instance: dg.DagsterInstance, store: Store, asset: dg.AssetKey, version: str
) -> Earlier | None:
    """Return a result with a data version whose file is in the store, or None.

    It is found whatever happened to its event; all results of the asset are read.
    """
    found = _with_version(instance, asset, version)
    return next((one for one in found if not _is_gone(store, asset, one)), None)


def artifact_of(
    instance: dg.DagsterInstance, store: Store, asset: dg.AssetKey, version: str
) -> Artifact | None:
    """Return the file of a data version that is in the store, else the newest recorded, or None.

    It is found though its event was deleted.
    """
    made = (one for one in history.all_of(instance, asset) if one.data_version == version)
    events = (one.artifact(store) for one in made)
    kept = (one.artifact(store, asset) for one in _with_version(instance, asset, version))
    newest = None
    for artifact in itertools.chain(events, kept):
        if artifact and store.size(artifact) == artifact.size:
            return artifact
        newest = newest or artifact
    return newest


def _with_version(
    instance: dg.DagsterInstance, asset: dg.AssetKey, version: str
) -> Iterator[Earlier]:
    for text in _of(instance, asset).values():
        # most texts are of other versions, and long
        if version in text and (found := _decoded(text)).data_version == version:
            yield found


def record(instance: dg.DagsterInstance, asset: dg.AssetKey, key: str, result: Earlier) -> None:
    """Record a result under its key, in place of an earlier one."""
    content = {name: getattr(result, name) for name in Earlier.__dataclass_fields__}
    # in their order: Dagster sorts the keys of mappings
    content["metadata"] = list(result.metadata.items())
    _dagster.set_value(instance, _name(asset, key), dg.serialize_value(content))


def forget(instance: dg.DagsterInstance, store: Store, asset: dg.AssetKey) -> None:
    """Remove the results of an asset whose file is gone from the store."""
    found = _of(instance, asset).items()
    gone = [name for name, text in found if _is_gone(store, asset, _decoded(text))]
    _dagster.remove_values(instance, gone)


def _is_gone(store: Store, asset: dg.AssetKey, result: Earlier) -> bool:
    return store.size(result.artifact(store, asset)) != result.size


def _of(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, str]:
    """Return the recorded results of an asset that may be reused, by name."""
    prefix = _name(asset, "")
    found = _dagster.values(instance, prefix)
    # not of another asset, whose key begins with this one
    return {
        name: text
        for name, text in found.items()
        if "/" not in name.removeprefix(prefix) and name != prefix + NEWEST
    }


def _decoded(text: str) -> Earlier:
    found: Any = dg.deserialize_value(text)
    return Earlier(**found | {"metadata": dict(found["metadata"])})


def _name(asset: dg.AssetKey, key: str) -> str:
    return f"{_PREFIX}/{asset.to_user_string()}/{key}"
