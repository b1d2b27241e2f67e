"""Imports what a full run imports sooner or later: `processes` forks from whoever did."""

import alembic.command
import boto3
import dagster._core.storage.sqlite_storage
import matplotlib.pyplot as plt
import pyarrow.csv
import pyarrow.parquet
import scipy.ndimage
import sklearn.linear_model
import sklearn.model_selection
import sklearn.pipeline
import skops.io
import tabulate

from mnist_pipeline import definitions, web
from mnist_pipeline.cli import main
from mnist_pipeline.config.settings import Settings
from mnist_pipeline.digits import report
from mnist_pipeline.incremental import session

__all__ = [
    "alembic",
    "boto3",
    "dagster",
    "definitions",
    "main",
    "plt",
    "pyarrow",
    "report",
    "scipy",
    "session",
    "sklearn",
    "skops",
    "tabulate",
    "web",
]

# forked commands find the project's own source parsed
definitions.build(Settings.load()).code_versions  # noqa: B018
