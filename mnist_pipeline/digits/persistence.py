"""The model's file: skops with its audit, loaded against an explicit list of trusted types.

No pickle: opening a file that somebody tampered with can fail, but runs nothing of it.
"""

import platform
import zipfile
from dataclasses import asdict
from typing import Any

import numpy as np

from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits, Origin
from mnist_pipeline.digits.verdict import Verdict
from mnist_pipeline.errors import FormatError

TRUSTED = ("mnist_pipeline.digits.features.PixelScaler",)
"""Types beyond skops' own defaults that a model file may hold."""

_PROBE = 1000


def dumps(model: TrainedModel) -> bytes:
    """Encode a fitted model, with the versions of the libraries that made it."""
    import sklearn
    import skops
    import skops.io

    libraries = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skops": skops.__version__,
    }
    content = {
        "pipeline": model.pipeline,
        "origin": asdict(model.origin),
        "params": model.params,
        "libraries": libraries,
    }
    return bytes(skops.io.dumps(content))


def loads(data: bytes) -> TrainedModel:
    """Decode what `dumps` made, after an audit of the types in it.

    Raises
    ------
    FormatError
        The bytes are no skops file, hold a type that is not trusted, or hold something else than
        a model of this pipeline.
    """
    import skops.io
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline

    try:
        foreign = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)
        if foreign:
            raise FormatError(f"the model file holds types that are not trusted: {sorted(foreign)}")
        content: dict[str, Any] = skops.io.loads(data, trusted=list(TRUSTED))
        pipeline = content["pipeline"]
        if not isinstance(pipeline, Pipeline) or not isinstance(pipeline[-1], SGDClassifier):
            raise TypeError("no pipeline ending in SGDClassifier")
        return TrainedModel(pipeline, Origin(**content["origin"]), dict(content["params"]))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"not a model file of this pipeline: {error!r}") from None


def reloads_identically(model: TrainedModel, train: Digits) -> Verdict:
    """The model, encoded and decoded, gives the same scores to the bit on training digits."""
    probe = train.pixels[:_PROBE]
    try:
        again = loads(dumps(model))
    except FormatError as error:
        return Verdict("reloads_identically", passed=False, saw=str(error))
    same = np.array_equal(again.scores(probe), model.scores(probe))
    passed = same and again.data_version == model.data_version
    saw = (
        f"scores of {len(probe):,} digits {'are' if passed else 'are not'} identical once reloaded"
    )
    return Verdict("reloads_identically", bool(passed), saw)
