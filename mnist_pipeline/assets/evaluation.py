"""The asset `evaluation`: the metrics."""

import dagster as dg

from mnist_pipeline.assets import display
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.params import EvaluationParams
from mnist_pipeline.incremental.codecs import json_class
from mnist_pipeline.incremental.steps import Result, asset


@asset(
    json_class("evaluation.json", Evaluation),
    group_name="evaluation",
    kinds={"json"},
    blocking=[metrics.plausible],
)
def evaluation(
    predictions: Predictions, evaluation_params: dg.ResourceParam[EvaluationParams]
) -> Result:
    """Accuracy and other metrics on the test digits.

    With intervals, per class, the confusion matrix, and how well probabilities are calibrated.
    """
    result = metrics.evaluate(predictions)
    return Result(
        result,
        [metrics.plausible(result, evaluation_params.least_accuracy)],
        {
            **_numbers(result),
            "digits": display.whose(predictions.origin),
            "confusion_matrix": display.confusion_matrix(result, predictions.origin),
            **display.calibration(predictions),
        },
    )


def _numbers(result: Evaluation) -> dict[str, float | int]:
    low, high = result.accuracy_interval
    probabilities = {name: getattr(result, name) for name in ("log_loss", "brier", "ece")}
    parts = {"mnist_test": result.mnist_test, "real_test": result.real_test}
    return {
        "accuracy": result.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "errors": round((1 - result.accuracy) * result.n_test),
        "n_test": result.n_test,
        **{name: number for name, number in probabilities.items() if number is not None},
        **{
            f"{name}_{which}": part[which]
            for name, part in parts.items()
            if part
            for which in ("accuracy", "n")
        },
    }
