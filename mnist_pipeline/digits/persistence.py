"""The model's file: a skops archive of the pipeline, and what is known of it as JSON beside.

No pickle: opening a file that somebody tampered with can fail, but runs nothing of it. The JSON is
read first, and a pipeline of another scikit-learn is not opened at all.
"""

import io
import json
import platform
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits, Origin
from mnist_pipeline.digits.validation import Fitted, Validated
from mnist_pipeline.digits.verdict import Verdict
from mnist_pipeline.errors import FormatError

TRUSTED = (
    "mnist_pipeline.digits.deskewing.Deskewer",
    "mnist_pipeline.digits.features.PixelScaler",
    "mnist_pipeline.digits.gradients.OrientedGradients",
)
"""Types beyond skops' own defaults that a model file may hold."""

_FACTS = "mnist_pipeline.json"
_LIBRARIES = ("numpy", "scikit-learn", "skops")
_PROBE = 1000


def dumps(model: TrainedModel) -> bytes:
    """Encode a fitted model, with the versions of the libraries that made it."""
    import skops.io

    validated = None
    if by := model.validated:
        validated = {**vars(by), "row_id": by.row_id.tolist(), "prediction": by.prediction.tolist()}
    facts = {
        "libraries": {
            "python": platform.python_version(),
            **{library: version(library) for library in _LIBRARIES},
        },
        "origin": asdict(model.origin),
        "params": model.params,
        "rows": model.rows,
        "validated": validated,
    }
    buffer = io.BytesIO(
        skops.io.dumps(model.pipeline, compression=zipfile.ZIP_DEFLATED, compresslevel=6)
    )
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo(_FACTS), json.dumps(facts))
    return buffer.getvalue()


def loads(data: bytes) -> TrainedModel:
    """Decode what `dumps` made, after an audit of the types in it.

    Raises
    ------
    FormatError
        The bytes are no skops file, hold a type that is not trusted, hold something else than a
        model of this pipeline, or were made with another minor version of scikit-learn.
    """
    import skops.io
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline

    known, libraries = _facts(data)
    made, here = libraries["scikit-learn"], version("scikit-learn")
    if _minor(made) != _minor(here):
        raise FormatError(
            f"the model was fitted with scikit-learn {made}, here is {here}, which may read it "
            "otherwise: materialize sgd_model again, or install what requirements.lock named then"
        )
    try:
        foreign = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)
        if foreign:
            raise FormatError(f"the model file holds types that are not trusted: {sorted(foreign)}")
        pipeline = skops.io.loads(data, trusted=list(TRUSTED))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"not a model file of this pipeline: {error!r}") from None
    if not isinstance(pipeline, Pipeline) or not isinstance(pipeline[-1], SGDClassifier):
        raise FormatError("not a model file of this pipeline: no pipeline ending in SGDClassifier")
    return TrainedModel(known.origin, known.params, known.rows, known.validated, pipeline)


def loads_fitted(data: bytes) -> Fitted:
    """Decode what is known of a model without opening its pipeline: of any scikit-learn.

    Raises
    ------
    FormatError
        The bytes are no model file.
    """
    return _facts(data)[0]


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


def _facts(data: bytes) -> tuple[Fitted, dict[str, str]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            facts: dict[str, Any] = json.loads(file.read(_FACTS))
        validated = None
        if by := facts["validated"]:
            arrays = {
                "row_id": np.array(by["row_id"], np.int32),
                "prediction": np.array(by["prediction"], np.uint8),
            }
            validated = Validated(**(by | arrays))
        known = Fitted(Origin(**facts["origin"]), facts["params"], facts["rows"], validated)
        return known, {"scikit-learn": str(facts["libraries"]["scikit-learn"])}
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"not a model file of this pipeline: {error!r}") from None


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
