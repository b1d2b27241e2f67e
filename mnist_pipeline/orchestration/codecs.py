"""Which file each asset becomes: its name, and how the value turns into bytes and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.digits import persistence
from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.report import Report
from mnist_pipeline.errors import FormatError


@dataclass(frozen=True)
class Codec:
    """How values of one asset are filed.

    Attributes
    ----------
    filename : callable
        The file's name, from the value.
    dumps, loads : callables
        The value to bytes; bytes and the file's name to the value.
    """

    filename: Callable[[Any], str]
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes, str], Any]


def _named(filename: str, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> Codec:
    return Codec(lambda value: filename, dumps, lambda data, name: loads(data))


CODECS = {
    "raw_mnist": Codec(lambda archive: archive.filename, lambda archive: archive.data, Archive),
    "train_set": _named("train_set.parquet", Digits.to_parquet, Digits.from_parquet),
    "test_set": _named("test_set.parquet", Digits.to_parquet, Digits.from_parquet),
    "sgd_model": _named("sgd_model.skops", persistence.dumps, persistence.loads),
    "predictions": _named("predictions.parquet", Predictions.to_parquet, Predictions.from_parquet),
    "evaluation": _named("evaluation.json", Evaluation.to_json, Evaluation.from_json),
    "champion_model": _named("champion_model.json", Champion.to_json, Champion.from_json),
    "report": _named(
        "report.html", lambda report: report.html.encode(), lambda data: Report(data.decode())
    ),
}


def decoded(asset: str, data: bytes, filename: str) -> Any:
    """Decode an asset's file.

    Raises
    ------
    FormatError
        It is not what its name says, in whatever way its parser came to that.
    """
    try:
        return CODECS[asset].loads(data, filename)
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"{filename} cannot be decoded: {error!r}") from error
