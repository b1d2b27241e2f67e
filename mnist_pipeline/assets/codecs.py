"""Which file each asset becomes: its name, and how the value turns into bytes and back.

What is too large for memory turns into a file, and is read from one.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mnist_pipeline.digits import filed, persistence
from mnist_pipeline.digits.archive import Archive
from mnist_pipeline.digits.champion import Champion
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.filed import FiledDigits
from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.report import Report
from mnist_pipeline.incremental.errors import FormatError, StoreError
from mnist_pipeline.incremental.store import Artifact, Store


@dataclass(frozen=True)
class Codec:
    """How values of one asset are filed.

    Attributes
    ----------
    filename : callable
        The file's name, from the value.
    dumps, loads : callables
        The value to bytes or to a finished file; bytes and the file's name to the value.
    opens : callable, optional
        An open file and the data version to the value, which may go on to read the file.
    """

    filename: Callable[[Any], str]
    dumps: Callable[[Any], bytes | Path]
    loads: Callable[[bytes, str], Any]
    opens: Callable[[BinaryIO, str], Any] | None = None


LARGE = 1 << 26
"""Bytes, 64 MiB, beyond which a file that can be read in parts is."""


def _split(filename: str) -> Codec:
    def dumps(digits: Digits) -> bytes | Path:
        file = digits.file if isinstance(digits, FiledDigits) else None
        return file or digits.to_parquet()

    return Codec(
        lambda value: filename, dumps, lambda data, name: Digits.from_parquet(data), filed.read
    )


def _named(filename: str, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> Codec:
    return Codec(lambda value: filename, dumps, lambda data, name: loads(data))


CODECS = {
    "raw_mnist": Codec(lambda archive: archive.filename, lambda archive: archive.data, Archive),
    "train_set": _split("train_set.parquet"),
    "test_set": _split("test_set.parquet"),
    "sgd_model": _named("sgd_model.skops", persistence.dumps, persistence.loads),
    "candidate": _named("candidate.skops", persistence.dumps, persistence.loads),
    "leaderboard": _named("leaderboard.json", Leaderboard.to_json, Leaderboard.from_json),
    "predictions": _named("predictions.parquet", Predictions.to_parquet, Predictions.from_parquet),
    "evaluation": _named("evaluation.json", Evaluation.to_json, Evaluation.from_json),
    "champion_model": _named("champion_model.json", Champion.to_json, Champion.from_json),
    "report": _named(
        "report.html", lambda report: report.html.encode(), lambda data: Report(data.decode())
    ),
}


def loaded(store: Store, artifact: Artifact) -> Any:
    """Read an asset's file, verified before any parser sees it.

    Raises
    ------
    StoreError
        The artifact is gone or damaged.
    FormatError
        It is not what its name says, in whatever way its parser came to that.
    """
    codec, filename = CODECS[artifact.asset], artifact.path.name
    try:
        if codec.opens is None:
            return codec.loads(store.read(artifact), filename)
        if artifact.size <= LARGE:
            return codec.opens(io.BytesIO(store.read(artifact)), artifact.data_version)
        with store.local(artifact) as path:
            # a file that is open can be read when its name is gone
            return codec.opens(path.open("rb"), artifact.data_version)
    except (StoreError, FormatError):
        raise
    except Exception as error:
        raise FormatError(f"{filename} cannot be decoded: {error!r}") from error
