"""The definitions: every door (UI, command line, schedule) goes through `build_definitions`."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import dagster as dg

from mnist_pipeline.assets.candidate import candidate
from mnist_pipeline.assets.champion_model import champion_model
from mnist_pipeline.assets.evaluation import evaluation
from mnist_pipeline.assets.experiments import Experiments, variants_sensor
from mnist_pipeline.assets.leaderboard import leaderboard
from mnist_pipeline.assets.predictions import predictions
from mnist_pipeline.assets.raw_mnist import raw_mnist
from mnist_pipeline.assets.report import report
from mnist_pipeline.assets.sgd_model import sgd_model
from mnist_pipeline.assets.splits import test_set, train_set
from mnist_pipeline.incremental._dagster import Graph
from mnist_pipeline.incremental.automation import retraining_job, retraining_schedule, with_deadline
from mnist_pipeline.incremental.code_version import recipes, stop_if_changed, versioned
from mnist_pipeline.incremental.console import terminal
from mnist_pipeline.incremental.errors import PipelineError
from mnist_pipeline.incremental.failures import report_failure
from mnist_pipeline.incremental.io_manager import artifact_io_manager
from mnist_pipeline.incremental.keep_fresh import keep_fresh_sensor
from mnist_pipeline.incremental.store import open_store
from mnist_pipeline.params import Params
from mnist_pipeline.settings import Settings

ASSETS = [
    raw_mnist,
    train_set,
    test_set,
    sgd_model,
    predictions,
    evaluation,
    champion_model,
    report,
]

EXPERIMENTS = [candidate, leaderboard]
"""Only there where the params file has variants; made when they are asked for."""

RETRAIN_ALL = "retrain_all"


def build_definitions(
    settings: Settings,
    more_checks: Sequence[dg.AssetChecksDefinition] = (),
    settings_now: Callable[[], Settings] = Settings.load,
) -> dg.Definitions:
    """Compose assets, checks, jobs, automation and resources for these settings.

    Parameters
    ----------
    settings : Settings
    more_checks : sequence of AssetChecksDefinition
        Checks of your own. A version that a blocking one refused is never read as an input.
    settings_now : callable
        Returns the settings as they are when it is called: automation asks for nothing while what
        they lead to is not what was loaded.

    Raises
    ------
    SettingsError
        The params file is missing or holds what is not allowed, or the cron expression is none.
    """
    inputs = inputs_of(settings)
    variants = Params.load(settings.params_file).variants
    assets = [*ASSETS, *EXPERIMENTS] if variants else ASSETS
    made_with = recipes(assets, inputs)
    store = open_store(settings.data_dir, locks=settings.dagster_home)
    specs = [spec for definition in [*assets, *more_checks] for spec in definition.check_specs]
    blocking = {spec.key for spec in specs if spec.blocking}
    every_day = [asset.key for asset in ASSETS]

    def everything() -> dg.JobDefinition:
        return definitions.resolve_job_def(RETRAIN_ALL)

    def changed() -> str | None:
        return changed_since(everything().asset_layer.asset_graph, settings, settings_now)

    def names_now() -> Collection[str]:
        return Params.load(settings_now().params_file).variants

    retraining = retraining_job(everything, store, changed)
    schedule = retraining_schedule(retraining, everything, settings.retrain_cron)
    definitions = dg.Definitions(
        assets=_with_source(
            with_deadline(versioned(asset, made_with[asset.key]), settings.retrain_cron)
            for asset in assets
        ),
        asset_checks=more_checks,
        jobs=[
            dg.define_asset_job(
                RETRAIN_ALL,
                dg.AssetSelection.assets(*every_day),
                description="Everything, from the source on, fresh or not.",
            ),
            retraining,
        ],
        schedules=[schedule],
        sensors=[
            keep_fresh_sensor(RETRAIN_ALL, everything, store, changed),
            report_failure,
            *([variants_sensor(names_now)] if variants else []),
        ],
        resources={
            **{key: _fixed(value) for key, value in inputs.items()},
            "openml_server": _fixed(settings.openml_server),
            "mirrors": _fixed(settings.mirrors),
            "store": _fixed(store),
            "experiments": _fixed(
                Experiments(
                    variants,
                    made_with[candidate.key].code_version if variants else "",
                    {check for check in blocking if check.asset_key == candidate.key},
                )
            ),
            "io_manager": artifact_io_manager(store, blocking, RETRAIN_ALL, every_day),
        },
        loggers={"terminal": terminal},
        # steps take seconds: a process each would cost more than they do
        executor=dg.in_process_executor,
    )
    return definitions


def changed_since(
    graph: Graph, settings: Settings, settings_now: Callable[[], Settings]
) -> str | None:
    """Say what is not as it was when the definitions were loaded, or None.

    Parameters
    ----------
    graph, settings
        The assets with their code versions, and the settings, as they were loaded.
    settings_now : callable
        Returns the settings as they are now.
    """
    try:
        now = settings_now()
        made_with = recipes(ASSETS, inputs_of(now))
    except (PipelineError, SyntaxError, ValueError, OSError) as error:
        return f"the definitions changed and do not load: {error}"
    if now != settings:
        return "the settings changed"
    changed = sorted(
        key.to_user_string()
        for key, recipe in made_with.items()
        if graph.get(key).code_version != recipe.code_version
    )
    return f"the definitions of {', '.join(changed)} changed" if changed else None


def inputs_of(settings: Settings) -> dict[str, object]:
    """Return the params and settings that results depend on, by the resource that steps require.

    Raises
    ------
    SettingsError
        The params file is missing or holds what is not allowed.
    """
    params = Params.load(settings.params_file)
    return {
        "source": settings.source,
        "split_params": params.split,
        "model_params": params.model,
        "validation_params": params.validation,
        "evaluation_params": params.evaluation,
        "champion_params": params.champion,
        "floor_params": params.floor,
    }


def _with_source(assets: Iterable[dg.AssetsDefinition]) -> Sequence[Any]:
    """Let the UI say of each asset where its code is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(list(assets))


def _fixed(value: object) -> dg.ResourceDefinition:
    """Define a resource that takes no config: a value in the Launchpad would change nothing."""
    return dg.ResourceDefinition(lambda _: value, config_schema={})


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions for the environment's settings: what `workspace.yaml` loads.

    Raises
    ------
    SettingsError
        In a run worker: the definitions changed since the run was asked for.
    """
    settings = Settings.load()
    definitions = build_definitions(settings)
    stop_if_changed(definitions.resolve_asset_graph(), str(settings.data_dir))
    return definitions
