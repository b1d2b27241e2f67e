"""The model's file: a skops archive of the pipeline, and what is known of it as JSON beside.

No pickle: opening a file that somebody tampered with can fail, but runs nothing of it. The JSON is
read first, and a pipeline of another scikit-learn is not opened at all. What a file unpacks to is
not limited: a file of the store is compared with its recorded digest before it comes here.
"""

import contextlib
import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.digits.data.validation import Fitted, Validated
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError

TRUSTED = (
    "mnist_pipeline.digits.features.deskew.Deskewer",
    "mnist_pipeline.digits.features.pixel_scaler.PixelScaler",
    "mnist_pipeline.digits.features.hog.OrientedGradients",
)
"""Types beyond skops' own defaults that a model file may hold."""

_FACTS = "mnist_pipeline.json"
_LIBRARIES = ("numpy", "scikit-learn", "skops")
_PROBE = 1000
_SAME = 1e-3


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
        "origin": model.origin.facts,
        "train_version": model.train_version,
        "params": model.params,
        "rows": model.rows,
        "validated": validated,
        "self_test": model.scores(_self_test(model)).tolist(),
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
        model of this pipeline, were made with another minor version of scikit-learn, or with
        features that the code here computes otherwise.
    """
    with _as_format_error():
        return _open(data)


def _open(data: bytes) -> TrainedModel:
    import skops.io
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline

    known, facts = _facts(data)
    made, here = str(facts["libraries"]["scikit-learn"]), version("scikit-learn")
    if _minor(made) != _minor(here):
        raise FormatError(
            f"the model was fitted with scikit-learn {made}, here is {here}, which may read it "
            "otherwise: materialize sgd_model again, or install what requirements.lock named then"
        )
    foreign = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)
    if foreign:
        raise FormatError(f"the model file holds types that are not trusted: {sorted(foreign)}")
    pipeline = skops.io.loads(data, trusted=list(TRUSTED))
    if not isinstance(pipeline, Pipeline) or not isinstance(pipeline[-1], SGDClassifier):
        raise FormatError("not a model file of this pipeline: no pipeline ending in SGDClassifier")
    model = TrainedModel(**vars(known), pipeline=pipeline)
    # files of earlier versions of this project have none
    if expected := facts.get("self_test"):
        wanted, found = np.array(expected, np.float64), model.scores(_self_test(model))
        # processors differ in the last bits, code in the first ones
        same = {"rtol": 0, "atol": _SAME * np.abs(wanted).max()}
        if wanted.shape != found.shape or not np.allclose(found, wanted, **same):
            raise FormatError(
                "the code that is here computes other features than the model was fitted with, and "
                "it would answer wrongly: materialize sgd_model again, or return to that code"
            )
    return model


def loads_fitted(data: bytes) -> Fitted:
    """Decode what is known of a model without opening its pipeline: of any scikit-learn.

    Raises
    ------
    FormatError
        The bytes are no model file.
    """
    with _as_format_error():
        return _facts(data)[0]


@contextlib.contextmanager
def _as_format_error() -> Iterator[None]:
    try:
        yield
    except FormatError:
        raise
    # what somebody made of a file can fail in as many ways as its parsers have lines
    except Exception as error:
        raise FormatError(f"not a model file of this pipeline: {error!r}") from error


def reloads_identically(model: TrainedModel, train: Digits) -> CheckResult:
    """The model, encoded and decoded, gives the same scores to the bit on training digits."""
    probe = train.pixels[:_PROBE]
    try:
        again = loads(dumps(model))
    except FormatError as error:
        return CheckResult("reloads_identically", passed=False, description=str(error))
    same = np.array_equal(again.scores(probe), model.scores(probe))
    passed = same and again.data_version == model.data_version
    description = (
        f"scores of {len(probe):,} digits {'are' if passed else 'are not'} identical once reloaded"
    )
    return CheckResult("reloads_identically", bool(passed), description)


def _self_test(model: TrainedModel) -> npt.NDArray[np.uint8]:
    """Sixteen images for a model that are the same everywhere and always: noise, uint8."""
    pixels = model.pipeline[0].n_features_in_
    noise = hashlib.shake_256(b"mnist_pipeline").digest(16 * pixels)
    return np.frombuffer(noise, np.uint8).reshape(16, pixels)


def _facts(data: bytes) -> tuple[Fitted, dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        facts: dict[str, Any] = json.loads(file.read(_FACTS))
    validated = None
    if by := facts["validated"]:
        arrays = {
            "row_id": np.array(by["row_id"], np.int32),
            "prediction": np.array(by["prediction"], np.uint8),
        }
        validated = Validated(**(by | arrays))
    known = Fitted(
        Origin(**facts["origin"]),
        str(facts["train_version"]),
        facts["params"],
        facts["rows"],
        validated,
    )
    return known, facts


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
