"""The definitions: every door (UI, command line, schedule) goes through `build_definitions`."""

from collections.abc import Sequence

import dagster as dg
from upath import UPath

from mnist_pipeline.orchestration.assets.champion_model import champion_model
from mnist_pipeline.orchestration.assets.evaluation import evaluation
from mnist_pipeline.orchestration.assets.predictions import predictions
from mnist_pipeline.orchestration.assets.raw_mnist import raw_mnist
from mnist_pipeline.orchestration.assets.report import report
from mnist_pipeline.orchestration.assets.sgd_model import sgd_model
from mnist_pipeline.orchestration.assets.splits import test_set, train_set
from mnist_pipeline.orchestration.code_versions import versioned
from mnist_pipeline.orchestration.io_manager import ArtifactIOManager
from mnist_pipeline.orchestration.terminal import terminal
from mnist_pipeline.params import Params
from mnist_pipeline.settings import Settings
from mnist_pipeline.store import Store

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

JOB = "materialize_all"


def build_definitions(
    settings: Settings, more_checks: Sequence[dg.AssetChecksDefinition] = ()
) -> dg.Definitions:
    """Compose assets, checks, job and resources for these settings.

    Parameters
    ----------
    settings : Settings
    more_checks : sequence of AssetChecksDefinition
        Checks of your own. A version that a blocking one refused is never read as an input.

    Raises
    ------
    SettingsError
        The params file is missing or holds what is not allowed.
    """
    params = Params.load(settings.params_file)
    # what results depend on: part of the code versions of the steps that require them
    inputs = {
        "source": settings.source,
        "split_params": params.split,
        "model_params": params.model,
        "floor_params": params.floor,
    }
    store = Store(UPath(settings.data_dir))
    specs = [spec for definition in [*ASSETS, *more_checks] for spec in definition.check_specs]
    return dg.Definitions(
        assets=[versioned(asset, inputs) for asset in ASSETS],
        asset_checks=more_checks,
        jobs=[
            dg.define_asset_job(
                JOB, dg.AssetSelection.all(), description="Everything, from the download on."
            )
        ],
        resources={
            **inputs,
            "openml_server": settings.openml_server,
            "store": store,
            "io_manager": ArtifactIOManager(store, {spec.key for spec in specs if spec.blocking}),
        },
        loggers={"terminal": terminal},
        # steps take seconds: a process each would cost more than they do
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions for the environment's settings: what `workspace.yaml` loads."""
    return build_definitions(Settings.load())
