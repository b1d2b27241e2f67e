"""The definitions: every entry point (UI, command line, schedule) loads this pipeline."""

import dagster as dg

from mnist_pipeline.assets import experiments, own
from mnist_pipeline.assets.champion_model import champion_model
from mnist_pipeline.assets.evaluation import evaluation
from mnist_pipeline.assets.predictions import predictions
from mnist_pipeline.assets.raw_mnist import raw_mnist
from mnist_pipeline.assets.report import report
from mnist_pipeline.assets.sgd_model import sgd_model
from mnist_pipeline.assets.splits import split_assets
from mnist_pipeline.config.params import Params
from mnist_pipeline.config.settings import Settings, of_project
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental import automation
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.incremental.pipeline import Pipeline
from mnist_pipeline.incremental.store import open_store

NOT_COUNTED = {
    # how a value is shown, not what it is
    "mnist_pipeline.assets.display",
    "mnist_pipeline.assets.lineage",
    # their values count, for the steps that read them
    "mnist_pipeline.digits.params",
    "mnist_pipeline.config.params",
    "mnist_pipeline.config.settings",
    "mnist_pipeline.config.settings_file",
}


def build(settings: Settings) -> Pipeline:
    """Return the pipeline for these settings.

    Raises SettingsError if the params file is missing or holds what is not allowed, or the cron
    expression is not valid.
    """
    params = Params.load(settings.params_file)
    store = open_store(settings.data_dir, locks=settings.dagster_home)
    pipeline = Pipeline(
        name="mnist_pipeline",
        module="mnist_pipeline.definitions",
        assets=[
            raw_mnist,
            *split_assets(registry.named(settings.source).shape),
            sgd_model,
            predictions,
            evaluation,
            champion_model,
            report,
            *own.ASSETS,
        ],
        checks=own.CHECKS,
        on_request={"experiments": experiments.assets(params.variants)},
        inputs={
            "source": settings.source,
            "split_params": params.split,
            "model_params": params.model,
            "validation_params": params.validation,
            "evaluation_params": params.evaluation,
            "champion_params": params.champion,
            "floor_params": params.floor.model_dump(),
        },
        resources={
            "openml_server": settings.openml_server,
            "mirrors": settings.mirrors,
            "store": store,
        },
        about={
            "source": "The source of the digits (MNIST_SOURCE).",
            "floor_params": "The accuracy that a champion needs, by source ([floor]).",
            "openml_server": "The base URL of the OpenML API (MNIST_OPENML_SERVER).",
            "mirrors": "Other places for the same digits, tried in order (MNIST_MIRRORS).",
            "store": "Where the files of the assets are (MNIST_DATA_DIR).",
        },
        store=store,
        home=settings.dagster_home,
        config=of_project("dagster.yaml"),
        not_counted=NOT_COUNTED,
        cron=settings.retrain_cron,
        schedule="retraining",
        alerts=settings.alerts,
        current=lambda: build(Settings.load()),
    )
    try:
        automation.schedule(pipeline, settings.retrain_cron)
    except SettingsError as error:
        raise SettingsError(f"MNIST_RETRAIN_CRON: {error}") from None
    return pipeline


@dg.definitions
def defs() -> dg.Definitions:
    """Load the pipeline for the environment's settings: what `workspace.yaml` names."""
    return build(Settings.load()).load()
