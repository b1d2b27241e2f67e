"""Scheduled retraining: the source is checked again, and what that made stale is made anew."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg

from mnist_pipeline.incremental import refresh as refreshing
from mnist_pipeline.incremental import retention, runs
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.incremental.history import trigger
from mnist_pipeline.incremental.store import Store

NAME = "retraining"
WAVE_OF = "mnist_pipeline/wave_of"
"""Tag of a run that is a wave of a retraining: that one's run id."""

_SOURCE = dg.AssetKey("raw_mnist")


def retraining_job(
    everything: Callable[[], dg.JobDefinition], store: Store, changed: Callable[[], str | None]
) -> dg.JobDefinition:
    """Define the job.

    Parameters
    ----------
    everything : callable
        Returns the job of all assets.
    store : Store
    changed : callable
        Says what is no longer as it was when the definitions were loaded, or returns None.
    """

    @dg.op(description="raw_mnist first, then, in waves, what is not fresh.")
    def refresh(context: dg.OpExecutionContext) -> None:
        assets = everything()
        refreshed = refreshing.refresh(
            assets,
            context.instance,
            store,
            trigger=trigger(context.run.tags) or f"job {NAME}",
            changed=changed,
            first=[_SOURCE],
            tags={WAVE_OF: context.run_id},
            queued=False,
            say=context.log.info,
        )
        keys = assets.asset_layer.asset_graph.get_all_asset_keys()
        if pruned := retention.prune(context.instance, keys):
            context.log.info(f"{pruned} runs older than {retention.RUN_DAYS} days deleted")
        made = ", ".join(refreshed.materialized) or "nothing"
        if refreshed.error:
            raise dg.Failure(f"{refreshed.error}\n(materialized: {made})", allow_retries=False)
        context.log.info(f"all is fresh; materialized: {made}")

    @dg.job(
        name=NAME,
        description=(
            "Check the source again (it is downloaded only if OpenML names another md5), then make "
            "what that, or anything else, left not fresh. Each wave is a run of its own."
        ),
    )
    def retraining() -> None:
        refresh()

    return retraining


def with_deadline(asset: dg.AssetsDefinition, cron: str) -> dg.AssetsDefinition:
    """Show the asset that every retraining makes as overdue, from a tick until it is made.

    No other asset: a model that came out as it was is not materialized again, and not overdue.
    """
    if asset.key != _SOURCE:
        return asset
    policy = dg.FreshnessPolicy.cron(deadline_cron=cron, lower_bound_delta=timedelta(minutes=1))
    return asset.map_asset_specs(lambda spec: dg.apply_freshness_policy(spec, policy))


def retraining_schedule(
    job: dg.JobDefinition, everything: Callable[[], dg.JobDefinition], cron: str
) -> dg.ScheduleDefinition:
    """Define when `job` runs; a tick is skipped while runs on the assets are in progress.

    Raises
    ------
    SettingsError
        The cron expression is not one.
    """

    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        assets = everything()
        keys = assets.asset_layer.asset_graph.get_all_asset_keys()
        if busy := runs.in_progress(context.instance, [job.name, assets.name], keys):
            return dg.SkipReason(busy)
        return dg.RunRequest()

    try:
        return dg.ScheduleDefinition(
            name=NAME,
            job=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            execution_fn=tick,
            description="MNIST_RETRAIN_CRON, UTC. A tick is skipped while runs are in progress.",
        )
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"MNIST_RETRAIN_CRON = {cron!r} is not allowed: a cron expression of five fields "
            "(or @daily and the like) is needed, for example '0 3 * * 1' for Mondays at 3:00 UTC"
        ) from None
