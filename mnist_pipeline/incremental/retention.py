"""What is kept of the past, and what goes: artifacts that nothing points at, runs of long ago."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from mnist_pipeline.assets import champion_history, experiments, feature_sharing
from mnist_pipeline.assets.champion_history import CHAMPION, MODEL
from mnist_pipeline.assets.experiments import CANDIDATE, LEADERBOARD
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.incremental import _dagster, partitions, runs
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.records import artifact_of, newest
from mnist_pipeline.incremental.store import Artifact, Leftover, Store

RUN_DAYS = 90
"""Days after which a finished run and its logs go, unless one of the newest materializations of an
asset is its."""

RUN_MATERIALIZATIONS = 10
"""How many materializations of each asset those are."""


FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]

_HISTORY = 1000

_FEATURES = dg.AssetKey(feature_sharing.ASSET)


def collect(
    instance: dg.DagsterInstance,
    store: Store,
    job: dg.JobDefinition,
    *,
    keep: int,
    remove: bool,
) -> list[Leftover]:
    """Return the artifacts that nothing points at, and remove them if asked.

    Pointed at are those of the newest `keep` materializations of each of a job's assets and of the
    experiments', of each variant, gone or not; the model that the champion names; and the features
    that a candidate of a variant of now was fitted with.

    Raises
    ------
    StoreError, FormatError
        This instance knows nothing of an asset's artifacts; the champion's file is gone or damaged,
        so that nobody knows which model is in service; a run began meanwhile.
    """
    assets = [*job.asset_layer.asset_graph.toposorted_asset_keys, *experiments.KEYS]
    for key in assets:
        asset = key.to_user_string()
        if store.holds(asset) and not _artifacts(instance, store, key):
            raise StoreError(
                f"{store.root / asset} holds artifacts, but Dagster's history in "
                f"{instance.root_directory} knows of none: is DAGSTER_HOME the one that they were "
                "made with? Nothing was removed."
            )

    def kept(key: dg.AssetKey) -> set[str]:
        if remove and runs.unfinished(instance, [job.name], assets):
            raise StoreError("a run began meanwhile: wait for its end, then run gc again")
        if key == CANDIDATE:
            return _kept_of_variants(instance, store, keep)
        if key == _FEATURES:
            return _features(instance)
        versions = {artifact.data_version for artifact in _artifacts(instance, store, key)[:keep]}
        if key == MODEL:
            champions = _artifacts(instance, store, CHAMPION)[:1]
            found = [Champion.from_json(store.read(champion)) for champion in champions]
            versions |= {one.model_version for one in found if one.model_version}
        return versions

    # what fails, fails before anything is removed
    planned = {key: kept(key) for key in [*assets, _FEATURES]}
    return [
        leftover
        for key in planned
        for leftover in store.leftovers(key.to_user_string(), partial(kept, key), remove=remove)
    ]


def prune(instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]) -> int:
    """Delete this pipeline's runs of long ago with their logs; return how many.

    Those that made one of the newest materializations of an asset or a variant stay, or the version
    that is its newest: what checks found of it is found by them. Those that made the champion too.
    """
    of_variants = partitions.history(instance, CANDIDATE).values()
    needed = {made.run_id for one in of_variants for made in one[:RUN_MATERIALIZATIONS]}
    for key in [*assets, LEADERBOARD]:
        found = newest(instance, key, _HISTORY)
        needed |= {made.run_id for made in found[:RUN_MATERIALIZATIONS]}
        lasting = {made.data_version for made in found[:1]}
        if key == MODEL:
            lasting.add(champion_history.now(champion_history.rulings(instance)).model_version)
        needed |= {made.run_id for made in found if made.data_version in lasting}
    old = dg.RunsFilter(
        statuses=FINISHED, created_before=datetime.now(UTC) - timedelta(days=RUN_DAYS)
    )
    gone = [
        run.run_id
        for run in instance.get_runs(old)
        if run.run_id not in needed and runs.OWNER in run.tags
    ]
    for run_id in gone:
        _dagster.forget_run(instance, run_id)
    return len(gone)


def _kept_of_variants(instance: dg.DagsterInstance, store: Store, keep: int) -> set[str]:
    asset = CANDIDATE.to_user_string()
    found = [
        [artifact_of(store, asset, made) for made in of_variant]
        for of_variant in partitions.history(instance, CANDIDATE).values()
    ]
    return {
        artifact.data_version
        for artifacts in found
        for artifact in [one for one in artifacts if one][:keep]
    }


def _features(instance: dg.DagsterInstance) -> set[str]:
    now = set(instance.get_dynamic_partitions(experiments.VARIANTS.name or ""))
    made = [one for name, one in partitions.newest(instance, CANDIDATE).items() if name in now]
    keys = [one.metadata.get(feature_sharing.KEY) for one in made]
    return {str(key.value) for key in keys if key}


def _artifacts(instance: dg.DagsterInstance, store: Store, key: dg.AssetKey) -> list[Artifact]:
    """Return what an asset's materializations point at, newest first."""
    asset = key.to_user_string()
    found = [artifact_of(store, asset, made) for made in newest(instance, key, _HISTORY)]
    return [artifact for artifact in found if artifact]
