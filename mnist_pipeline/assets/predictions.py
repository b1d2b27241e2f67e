"""The asset `predictions`: the model's answer for every test digit."""

import numpy as np

from mnist_pipeline.assets.display import prediction_columns, worst_mistakes
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.model import prediction
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.steps import Result, asset

CODEC: Codec[Predictions] = Codec(
    "predictions.parquet",
    Predictions.to_parquet,
    lambda data, name: Predictions.from_parquet(data),
)


@asset(
    CODEC,
    group_name="evaluation",
    kinds={"parquet"},
    metadata=prediction_columns(),
    blocking=[prediction.unseen_in_training],
)
def predictions(sgd_model: TrainedModel, test_set: Digits) -> Result:
    """One row per test digit: label, prediction, confidence and the score of each class."""
    result = prediction.predict(sgd_model, test_set)
    return Result(
        result,
        [prediction.unseen_in_training(sgd_model, test_set)],
        {
            "dagster/row_count": len(result.row_id),
            **worst_mistakes(test_set, result),
            "printed": np.array2string(result.prediction.astype(str), threshold=6),
        },
    )
