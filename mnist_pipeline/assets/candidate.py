"""The asset `candidate`: a variant of the model, fitted and validated. A partition a variant."""

from contextlib import ExitStack

import dagster as dg

from mnist_pipeline.assets import feature_sharing, fitting
from mnist_pipeline.assets.experiments import VARIANTS, Experiments
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.shared_features import Features
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.step import published_asset
from mnist_pipeline.incremental.store import Store
from mnist_pipeline.params import ValidationParams


@published_asset(
    TrainedModel,
    group_name="experiments",
    kind="scikitlearn",
    blocking=fitting.GUARDS,
    partitions_def=VARIANTS,
)
def candidate(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    validation_params: dg.ResourceParam[ValidationParams],
    experiments: dg.ResourceParam[Experiments],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """A model as `sgd_model` is, fitted with a variant of params.toml, `[variants]` or `[sweep]`.

    It is compared on the validation rows, never on test rows. Variants with the same features make
    them once.
    """
    params = experiments.variants.get(context.partition_key)
    if params is None:
        raise dg.Failure(
            f"there is no variant {context.partition_key} in params.toml (any more)",
            allow_retries=False,
        )
    code_version = context.assets_def.code_versions_by_key[context.asset_key]
    key = feature_sharing.key_of(params, train_set, code_version)
    with ExitStack() as stack:

        def features(parts: Parts) -> Features | None:
            if key is None:
                return None
            shared = feature_sharing.shared(context, store, key, params, parts)
            return stack.enter_context(shared)

        recorded = {feature_sharing.KEY: key} if key else None
        try:
            return fitting.fit(context, train_set, params, validation_params, features, recorded)
        except (StoreError, FormatError) as error:
            raise dg.Failure(str(error), allow_retries=False) from error
