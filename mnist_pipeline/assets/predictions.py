"""The asset `predictions`: what the model says of every test digit."""

import dagster as dg
import numpy as np

from mnist_pipeline.assets.display import column_schema, worst_mistakes
from mnist_pipeline.digits import prediction
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.prediction import COLUMNS, Predictions
from mnist_pipeline.incremental.step import Seconds, judged, published_asset


@published_asset(
    Predictions,
    group_name="evaluation",
    kind="parquet",
    metadata=column_schema(COLUMNS),
    blocking=[prediction.unseen_in_training],
)
def predictions(
    context: dg.AssetExecutionContext, sgd_model: TrainedModel, test_set: Digits
) -> dg.MaterializeResult:
    """One row per test digit: label, prediction, confidence and the score of each class."""
    seconds = Seconds()
    result = prediction.predict(sgd_model, test_set)
    return judged(
        context,
        result,
        [prediction.unseen_in_training(sgd_model, test_set)],
        {
            "dagster/row_count": len(result.row_id),
            **worst_mistakes(test_set, result),
            "printed": np.array2string(result.prediction.astype(str), threshold=6),
            "seconds": seconds(),
        },
    )
