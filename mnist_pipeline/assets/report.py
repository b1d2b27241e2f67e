"""The asset `report`: the page to look at."""

import dagster as dg

from mnist_pipeline.assets.display import REPORT_LINK, worst_mistakes
from mnist_pipeline.assets.lineage import as_of
from mnist_pipeline.digits import report as page
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.report import Evidence, Report
from mnist_pipeline.incremental.codecs import Codec
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.steps import Result, asset

CODEC: Codec[Report] = Codec(
    "report.html", lambda page: page.html.encode(), lambda data, name: Report(data.decode())
)


@asset(
    CODEC,
    upstream=["predictions", "sgd_model", "test_set", "train_set"],
    group_name="release",
    kinds={"html"},
    metadata=REPORT_LINK,
)
def report(
    context: dg.AssetExecutionContext,
    evaluation: Evaluation,
    champion_model: Champion,
    predictions: Predictions,
    sgd_model: TrainedModel,
    test_set: Digits,
    train_set: Digits,
    io_manager: dg.ResourceParam[Engine],
) -> Result:
    """One self-contained HTML file to read.

    It shows the numbers, the mistakes, the digits, and where it all comes from.

    What it reports of times, runs, code and past models is as of when it was written, and no part
    of its data version.
    """
    evidence = Evidence(train_set, test_set, sgd_model, predictions, evaluation, champion_model)
    return Result(
        page.render(evidence, as_of(context, io_manager, report)),
        metadata={"accuracy": evaluation.accuracy, **worst_mistakes(test_set, predictions)},
    )
