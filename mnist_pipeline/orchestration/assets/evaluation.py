"""The asset `evaluation`: the numbers."""

import dagster as dg

from mnist_pipeline.digits import metrics
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.orchestration.presentation import confusion_matrix
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset
from mnist_pipeline.params import FloorParams


@published_asset(
    Evaluation,
    group_name="evaluation",
    kind="json",
    blocking=[metrics.above_floor],
)
def evaluation(
    context: dg.AssetExecutionContext,
    predictions: Predictions,
    floor_params: dg.ResourceParam[FloorParams],
) -> dg.MaterializeResult:
    """Accuracy with its interval, precision, recall and F1 per class, the confusion matrix."""
    seconds = Seconds()
    result = metrics.evaluate(predictions)
    floor: float = getattr(floor_params, predictions.origin.source)
    low, high = result.accuracy_interval
    return judged(
        context,
        result,
        [metrics.above_floor(result, floor)],
        {
            "accuracy": result.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "errors": round((1 - result.accuracy) * result.n_test),
            "n_test": result.n_test,
            "confusion_matrix": confusion_matrix(result),
            "seconds": seconds(),
        },
    )
