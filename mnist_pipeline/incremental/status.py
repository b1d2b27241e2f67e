"""How every asset stands, and why: Dagster's answer, what the store holds, what checks refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
from dagster import AssetKey

from mnist_pipeline.incremental import _dagster
from mnist_pipeline.incremental._dagster import Change, Graph, Recorded
from mnist_pipeline.incremental.code_version import MADE_WITH, Recipe
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.records import artifact_of
from mnist_pipeline.incremental.step import MADE_FROM, made_from
from mnist_pipeline.incremental.store import Artifact, Store

Status = Literal["fresh", "stale", "waiting", "missing", "damaged", "refused"]


@dataclass(frozen=True)
class Standing:
    """How one asset stands.

    Attributes
    ----------
    status : str
        `fresh`; `stale`: its own code, params or a direct input changed; `waiting`: nothing of its
        own, but an ancestor is not fresh; `missing`: never made, or its file is gone; `damaged`:
        its file is not what was recorded; `refused`: a blocking check did not let it pass.
    causes : list of str
        For a person to act on; empty where fresh.
    data_version, code_version, path : str or None
        Of the newest materialization: its versions, and its file.
    made_from : str
        Digest of what it would be made from now: its code version, its inputs' data versions.
    """

    status: Status
    causes: list[str]
    data_version: str | None
    code_version: str | None
    path: str | None
    made_from: str


def assess(
    graph: Graph, instance: dg.DagsterInstance, store: Store, *, verify: bool = False
) -> dict[AssetKey, Standing]:
    """Look at every asset, parents before children.

    Parameters
    ----------
    graph : asset graph
        With the code versions and recipes of now.
    instance, store
        Where materializations are recorded, and where their files are.
    verify : bool
        Read every file again and compare its digest with the recorded one; without, only that it
        is there and has its size.
    """
    keys = graph.toposorted_asset_keys
    records = {
        record.asset_entry.asset_key: Recorded.of(newest)
        for record in instance.get_asset_records(keys)
        if (newest := record.asset_entry.last_materialization_record)
    }
    changes = _dagster.changes(instance, graph, keys)
    standings: dict[AssetKey, Standing] = {}
    for key in keys:
        node, recorded = graph.get(key), records.get(key)
        inputs = {
            parent.to_user_string(): records[parent].data_version if parent in records else None
            for parent in node.parent_keys
        }
        origin = made_from(node.code_version, inputs)
        artifact = artifact_of(store, key.to_user_string(), recorded) if recorded else None
        status, causes = (
            _file(artifact, store, verify=verify) if recorded else ("missing", ["never made"])
        )
        outdated = _in_words(changes[key], node.metadata[MADE_WITH], recorded)
        refused = _refused(instance, graph, key, recorded)
        if outdated or status != "fresh":
            refused |= _refused_since(recorded, instance, graph, key, origin)
        behind = [name for name in sorted(inputs) if standings[AssetKey(name)].status != "fresh"]
        if status == "fresh":
            status = (
                "refused" if refused else "stale" if outdated else "waiting" if behind else "fresh"
            )
        causes += [f"refused by its check {name}: {saw}" for name, saw in refused.items()]
        causes += outdated
        if status == "waiting":
            causes = [f"{', '.join(behind)} first: not fresh"]
        standings[key] = Standing(
            status,
            causes,
            recorded.data_version if recorded else None,
            recorded.code_version if recorded else None,
            str(artifact.path) if artifact else None,
            origin,
        )
    return standings


def frontier(graph: Graph, standings: Mapping[AssetKey, Standing]) -> list[AssetKey]:
    """Return what is not fresh and has no ancestor that is not: what can be made now."""
    not_fresh = {key for key, standing in standings.items() if standing.status != "fresh"}
    return [
        key
        for key in standings
        if key in not_fresh and not graph.get_ancestor_asset_keys(key) & not_fresh
    ]


def _file(artifact: Artifact | None, store: Store, *, verify: bool) -> tuple[Status, list[str]]:
    """Look for the file of the newest materialization: `fresh` where it is what was recorded."""
    if artifact is None:
        return "missing", ["its newest materialization was not made here and names no file"]
    found = store.size(artifact)
    if found is None:
        return "missing", [f"its file is gone from the store: {artifact.path}"]
    if found != artifact.size:
        saw = f"{artifact.path} has {found:,} bytes, recorded were {artifact.size:,}"
        return "damaged", [f"its file is damaged: {saw}"]
    if verify:
        try:
            with store.local(artifact):
                pass
        except StoreError as error:
            return "damaged", [str(error)]
    return "fresh", []


def _in_words(
    changes: Sequence[Change], recipe: Mapping[str, Any], recorded: Recorded | None
) -> list[str]:
    words = []
    for change in changes:
        if change.kind == "CODE":
            before = recorded.metadata.get(MADE_WITH) if recorded else None
            details = Recipe(**recipe).changes_since(before.value if before else None)
            words += details or ["its code version changed"]
        elif change.kind == "DATA":
            words.append(f"{change.on} is newer")
        else:
            words.append(f"it {change.reason}")
    return words


def _blocking(graph: Graph, key: AssetKey) -> list[dg.AssetCheckKey]:
    return [check for check in graph.get(key).check_keys if graph.get(check).blocking]


def _refused(
    instance: dg.DagsterInstance, graph: Graph, key: AssetKey, recorded: Recorded | None
) -> dict[str, str]:
    if recorded is None:
        return {}
    return _dagster.refusals(instance, recorded.data_version, _blocking(graph, key))


def _refused_since(
    recorded: Recorded | None,
    instance: dg.DagsterInstance,
    graph: Graph,
    key: AssetKey,
    origin: str,
) -> dict[str, str]:
    """Return the checks that refused, before publication, what would be made again now.

    What was materialized later has overcome that.
    """
    refused = {}
    for check in _blocking(graph, key):
        since = recorded.timestamp if recorded else 0.0
        failed = _dagster.failed_without_target(instance, check, since)
        what = failed.metadata.get(MADE_FROM) if failed else None
        if failed and what and what.value == origin:
            refused[check.name] = failed.description or "failed"
    return refused
