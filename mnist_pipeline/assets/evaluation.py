"""The asset `evaluation`: the numbers."""

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.digits import metrics
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.incremental.step import Seconds, judged, published_asset
from mnist_pipeline.params import EvaluationParams


@published_asset(
    Evaluation,
    group_name="evaluation",
    kind="json",
    blocking=[metrics.plausible],
)
def evaluation(
    context: dg.AssetExecutionContext,
    predictions: Predictions,
    evaluation_params: dg.ResourceParam[EvaluationParams],
) -> dg.MaterializeResult:
    """Accuracy with its interval, per class, the confusion matrix, calibration; on test digits."""
    seconds = Seconds()
    result = metrics.evaluate(predictions)
    low, high = result.accuracy_interval
    probabilities = {
        name: number
        for name in ("log_loss", "brier", "ece")
        if (number := getattr(result, name)) is not None
    }
    own = (
        {
            "mnist_test_accuracy": result.mnist_test["accuracy"],
            "mnist_test_n": result.mnist_test["n"],
        }
        if result.mnist_test
        else {}
    )
    if result.real_test:
        own = {
            "real_test_accuracy": result.real_test["accuracy"],
            "real_test_n": result.real_test["n"],
        }
    return judged(
        context,
        result,
        [metrics.plausible(result, evaluation_params.least_accuracy)],
        {
            "accuracy": result.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "errors": round((1 - result.accuracy) * result.n_test),
            "n_test": result.n_test,
            **probabilities,
            **own,
            "confusion_matrix": display.confusion_matrix(result),
            **display.calibration(predictions),
            "seconds": seconds(),
        },
    )
