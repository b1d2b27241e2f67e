"""The asset `report`: the page to look at."""

import dagster as dg

from mnist_pipeline.assets.display import worst_mistakes
from mnist_pipeline.assets.lineage import as_of
from mnist_pipeline.digits import report as page
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.report import Evidence, Report
from mnist_pipeline.incremental.step import Seconds, judged, published_asset
from mnist_pipeline.incremental.store import Store


@published_asset(
    Report,
    group_name="evaluation",
    kind="html",
)
def report(
    context: dg.AssetExecutionContext,
    train_set: Digits,
    test_set: Digits,
    sgd_model: TrainedModel,
    predictions: Predictions,
    evaluation: Evaluation,
    champion_model: Champion,
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """One self-contained HTML file: the numbers, the mistakes, the digits, where it all comes from.

    What it tells of times, runs, code and past models is as of when it was written, and no part of
    its data version.
    """
    seconds = Seconds()
    evidence = Evidence(train_set, test_set, sgd_model, predictions, evaluation, champion_model)
    return judged(
        context,
        page.render(evidence, as_of(context, store)),
        [],
        {
            "accuracy": evaluation.accuracy,
            **worst_mistakes(test_set, predictions),
            "seconds": seconds(),
        },
    )
