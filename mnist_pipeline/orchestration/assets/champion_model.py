"""The asset `champion_model`: which model is in service."""

import dagster as dg

from mnist_pipeline.digits import champion
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.orchestration.publication import Seconds, judged, published_asset


@published_asset(
    Champion,
    group_name="model",
    kind="json",
    deps=["train_set"],
    blocking=[champion.evaluation_matches],
)
def champion_model(
    context: dg.AssetExecutionContext, sgd_model: TrainedModel, evaluation: Evaluation
) -> dg.MaterializeResult:
    """The data version of the model in service, and the decisions that stand."""
    seconds = Seconds()
    result = champion.decide(sgd_model.data_version, evaluation)
    return judged(
        context,
        result,
        [champion.evaluation_matches(sgd_model.data_version, evaluation)],
        {
            "model_version": result.model_version,
            "decision": result.decisions[-1].why,
            "accuracy": evaluation.accuracy,
            "seconds": seconds(),
        },
    )
