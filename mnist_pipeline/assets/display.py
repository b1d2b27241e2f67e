"""How values show in the Dagster UI: tables, schemas, pictures.

It does not count for code versions: an edit here makes no asset stale.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np

from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.digits.data.shape import CLASSES, Shape
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.report import contents, figures
from mnist_pipeline.digits.report.figures import LIGHT
from mnist_pipeline.digits.sources import registry

REPORT_LINK = {"report": dg.MetadataValue.url("/digits/report")}
"""Where `mnist-pipeline ui` serves the newest report, as standing metadata of the asset."""

_SHOWN = 20
_SHOWN_VARIANTS = 40


def column_schema(*columns: tuple[str, str, str]) -> dict[str, dg.TableSchema]:
    """Columns, by name, type and description, as metadata of an asset's definition."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(*one) for one in columns])}


def digit_columns(shape: Shape) -> dict[str, dg.TableSchema]:
    """The columns of digits, those of the pixels in one line: 784 would bury the page."""
    pixels = f"grey values of the {shape.width} x {shape.width} image, row by row: 0 is paper"
    return column_schema(
        ("row_id", "int32", "row in the source's file, from 0"),
        (f"pixel1 ... pixel{shape.pixels}", "uint8", pixels),
        ("class", "uint8", "the digit that it is"),
    )


def prediction_columns() -> dict[str, dg.TableSchema]:
    """The columns of predictions."""
    return column_schema(
        ("row_id", "int32", "row in the source's file, as in test_set"),
        ("label", "uint8", "the digit that it is"),
        ("prediction", "uint8", "the class with the largest score"),
        ("confidence", "float32", "probability of the prediction; null without probabilities"),
        ("score_0 ... score_9", "float32", "the model's score of each class"),
    )


def whose(origin: Origin) -> str:
    """Whose digits these are, and whether they are not what their source promises."""
    source = registry.by_name(origin.source)
    text = origin.described(source.noun)
    return text if source.keeps_promise(origin) else f"{text}, which are not {source.card.name}"


def class_balance(digits: Digits) -> dg.TableMetadataValue:
    """How many digits of each class, and their share."""
    counts = np.bincount(digits.labels, minlength=CLASSES)
    source = registry.by_name(digits.origin.source)
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    source.noun: name,
                    "count": int(count),
                    "share": round(float(count) / len(digits), 4),
                }
            )
            for name, count in zip(source.class_names, counts, strict=True)
        ]
    )


def first_digits(digits: Digits) -> dg.MarkdownMetadataValue:
    """The first twenty digits, with their labels."""
    labels = [str(label) for label in digits.labels[:_SHOWN]]
    return _picture("the first digits", figures.digits(LIGHT, digits.pixels[:_SHOWN], labels))


def fit(model: TrainedModel, train: Digits) -> dict[str, dg.MarkdownMetadataValue]:
    """How the fit went from epoch to epoch, or the weights of each pixel; or neither."""
    if model.validated and (accuracies := model.validated.accuracies):
        return {
            "accuracy_by_epoch": _picture("accuracy by epoch", figures.epochs(LIGHT, accuracies))
        }
    weights = contents.pixel_weights(model)
    if weights is None:
        return {}
    names = registry.by_name(train.origin.source).class_names
    maps = figures.class_maps(LIGHT, weights, contents.mean_images(train), names)
    return {"weights": _picture("weights of each class", maps)}


def worst_mistakes(
    test: Digits, predictions: Predictions
) -> dict[str, int | dg.MarkdownMetadataValue]:
    """How many are wrong, and the twenty with the highest confidence."""
    mistakes = contents.mistakes(predictions)
    places = mistakes[:_SHOWN]
    if not len(mistakes):
        return {"mistakes": 0}
    titles = [f"{predictions.label[p]} as {predictions.prediction[p]}" for p in places]
    png = figures.digits(LIGHT, test.pixels[places], titles)
    return {"mistakes": len(mistakes), "worst_mistakes": _picture("the worst mistakes", png)}


def confusion_matrix(evaluation: Evaluation, origin: Origin) -> dg.MarkdownMetadataValue:
    """The confusion matrix."""
    names = registry.by_name(origin.source).class_names
    png = figures.confusion_matrix(LIGHT, evaluation.confusion_matrix, names)
    return _picture("confusion matrix", png)


def calibration(predictions: Predictions) -> dict[str, dg.MarkdownMetadataValue]:
    """The reliability diagram and the confidences of right and wrong, if there are any."""
    confidence, right = predictions.confidence, predictions.right
    if confidence is None:
        return {}
    reliability = figures.reliability(LIGHT, confidence, right)
    return {
        "reliability": _picture("reliability diagram", reliability),
        "confidences": _picture("confidences", figures.confidences(LIGHT, confidence, right)),
    }


def past_models(decided: Sequence[tuple[float | None, str]]) -> dict[str, dg.MarkdownMetadataValue]:
    """The validation accuracy of models in the order of decisions, from two on.

    Each is given by accuracy and outcome.
    """
    if models := contents.plotted_models(decided):
        return {"past_models": _picture("models so far", figures.past_models(LIGHT, models))}
    return {}


def leaderboard(
    board: Leaderboard, spent: Mapping[str, Mapping[str, Any]]
) -> dict[str, dg.MetadataValue[Any]]:
    """The table and the plot of the best variants, with the epochs and seconds of their fits."""
    shown = board.entries[:_SHOWN_VARIANTS]
    rows = [
        dg.TableRecord(
            {
                "place": place,
                "variant": one.variant,
                "accuracy": round(one.accuracy, 4),
                "95% interval": "{:.4f} to {:.4f}".format(*one.accuracy_interval),
                "won / lost": f"{one.only_this_right} / {one.only_best_right}",
                "p": round(one.p_value, 6),
                "differs from the best in": board.differences(one),
                "epochs": spent[one.variant]["epochs"],
                "seconds": spent[one.variant]["fit_seconds"],
            }
        )
        for place, one in enumerate(shown, 1)
    ]
    plot = _picture("accuracy of the variants", figures.variants(LIGHT, shown))
    return {"table": dg.MetadataValue.table(rows), "plot": plot}


def _picture(name: str, png: bytes) -> dg.MarkdownMetadataValue:
    """A small picture that the UI shows in place."""
    return dg.MetadataValue.md(f"![{name}]({contents.data_url(png)})")
