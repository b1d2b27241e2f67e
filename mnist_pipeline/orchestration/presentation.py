"""How values show in the Dagster UI: tables, schemas, pictures. Never part of a result.

`code_versions` leaves this module out: editing a picture makes no asset stale that only shows it.
"""

import base64
from collections.abc import Mapping

import dagster as dg
import numpy as np

from mnist_pipeline.digits import figures
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.shape import CLASSES


def column_schema(columns: Mapping[str, str]) -> dict[str, dg.TableSchema]:
    """Column names and types as an asset's standing metadata."""
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])
    return {"dagster/column_schema": schema}


def class_balance(digits: Digits) -> dg.TableMetadataValue:
    """How many digits of each class, and their share."""
    counts = np.bincount(digits.labels, minlength=CLASSES)
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {"digit": digit, "count": int(count), "share": round(float(count) / len(digits), 4)}
            )
            for digit, count in enumerate(counts)
        ]
    )


def confusion_matrix(evaluation: Evaluation) -> dg.MarkdownMetadataValue:
    """A small picture that the UI shows in place."""
    png = base64.b64encode(figures.confusion_matrix(evaluation.confusion_matrix)).decode()
    return dg.MetadataValue.md(f"![confusion matrix](data:image/png;base64,{png})")
