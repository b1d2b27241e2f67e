"""Codecs of this project's assets: which file each becomes."""

from typing import Any

from mnist_pipeline.digits import persistence
from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.report import Report
from mnist_pipeline.incremental.codecs import Codec


def _document(filename: str, kind: Any) -> Codec[Any]:
    return Codec(filename, kind.to_json, lambda data, name: kind.from_json(data))


def digits(filename: str) -> Codec[Digits]:
    """Return the codec of a split."""
    return Codec(filename, write=Digits.write, open=Digits.read)


def model(filename: str) -> Codec[TrainedModel]:
    """Return the codec of a fitted model."""
    return Codec(filename, persistence.dumps, lambda data, name: persistence.loads(data))


ARCHIVE: Codec[Archive] = Codec(
    lambda archive: archive.filename, lambda archive: archive.data, Archive
)
PREDICTIONS: Codec[Predictions] = Codec(
    "predictions.parquet",
    lambda value: value.to_parquet(),
    lambda data, name: Predictions.from_parquet(data),
)
EVALUATION: Codec[Evaluation] = _document("evaluation.json", Evaluation)
CHAMPION: Codec[Champion] = _document("champion_model.json", Champion)
LEADERBOARD: Codec[Leaderboard] = _document("leaderboard.json", Leaderboard)
REPORT: Codec[Report] = Codec(
    "report.html", lambda value: value.html.encode(), lambda data, name: Report(data.decode())
)
