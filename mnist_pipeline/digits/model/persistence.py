"""The model's file: a skops archive of the pipeline, and the facts about it as JSON beside.

No pickle: opening a file that was tampered with can fail, but runs nothing of it. The JSON is read
first, and a pipeline of another scikit-learn is not opened at all. What a file unpacks to is not
limited: the store compares a file with its recorded digest before it comes here.
"""

import contextlib
import hashlib
import io
import json
import platform
import re
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.data.dataset import Digits, Origin
from mnist_pipeline.digits.data.validation import Fitted, Validated
from mnist_pipeline.digits.errors import IncompatibleModelError
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.model.typicality import Reference
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.errors import FormatError, PipelineError

_TRANSFORMERS = "mnist_pipeline.digits.features.transformers"
TRUSTED = [f"{_TRANSFORMERS}.{name}" for name in ("Deskewer", "PixelScaler", "OrientedGradients")]
"""Types beyond skops' own defaults that a model file may hold."""

_FACTS = "mnist_pipeline.json"
_REFERENCE = "reference_"
"""How the names of the reference's arrays begin."""

_LIBRARIES = ("numpy", "scikit-learn", "skops")
_PROBE = 1000
_SAME = 1e-3


def dumps(model: TrainedModel) -> bytes:
    """Encode a fitted model, with the versions of the libraries that made it.

    The same model gives the same bytes, so that a lost file can be restored.
    """
    import skops.io

    libraries = {library: version(library) for library in _LIBRARIES}
    facts = {field.name: getattr(model, field.name) for field in fields(Fitted)}
    facts["libraries"] = {"python": platform.python_version(), **libraries}
    facts["self_test"] = model.scores(_self_test(model))
    contents = _numbered(skops.io.dumps(model.pipeline))
    contents[_FACTS] = json.dumps(facts, default=_plain).encode()
    if model.reference:
        contents |= {_REFERENCE + name: _npy(array) for name, array in _arrays(model.reference)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _numbered(data: bytes) -> dict[str, bytes]:
    """Return the files of a skops archive, with objects numbered from 0 instead of by address."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    schema = contents.pop("schema.json").decode()
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], str(len(numbers)))

    schema = re.sub(r'("__id__": |"file": ")(\d+)', number, schema)
    arrays = sorted(contents.items(), key=lambda item: int(numbers[item[0].removesuffix(".npy")]))
    renamed = {f"{numbers[name.removesuffix('.npy')]}.npy": array for name, array in arrays}
    return renamed | {"schema.json": schema.encode()}


def _arrays(reference: Reference) -> list[tuple[str, npt.NDArray[Any]]]:
    return [(f"{field.name}.npy", getattr(reference, field.name)) for field in fields(Reference)]


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _reference(data: bytes) -> Reference:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        names = [f"{_REFERENCE}{field.name}.npy" for field in fields(Reference)]
        if names[0] not in file.namelist():
            raise IncompatibleModelError(
                "the model was fitted before models had digits to compare pictures with: "
                "`mnist-pipeline refresh` fits it again"
            )
        read = (np.load(io.BytesIO(file.read(name)), allow_pickle=False) for name in names)
        return Reference(*read)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.facts if isinstance(value, Origin) else vars(value)


@contextlib.contextmanager
def _as_format_error() -> Iterator[None]:
    try:
        yield
    except PipelineError:
        raise
    # a damaged file can fail in as many ways as its parsers have lines
    except Exception as error:
        raise FormatError(f"not a model file of this pipeline: {error!r}") from error


@_as_format_error()
def loads(data: bytes) -> TrainedModel:
    """Decode what `dumps` made, after an audit of the types in it.

    Raises FormatError where the bytes are not a skops file, or hold a type that is not trusted or
    something else than a model of this pipeline; IncompatibleModelError where it was fitted with
    another minor version of scikit-learn, or with features that this code computes otherwise.
    """
    import skops.io
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline

    fitted, facts = _facts(data)
    made, here = str(facts["libraries"]["scikit-learn"]), version("scikit-learn")
    if made.split(".")[:2] != here.split(".")[:2]:
        raise IncompatibleModelError(
            f"the model was fitted with scikit-learn {made}, here is {here}, which may read it "
            "otherwise: materialize sgd_model again, or install what requirements.lock named then"
        )
    foreign = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)
    if foreign:
        raise FormatError(f"the model file holds types that are not trusted: {sorted(foreign)}")
    pipeline = skops.io.loads(data, trusted=TRUSTED)
    if not isinstance(pipeline, Pipeline) or not isinstance(pipeline[-1], SGDClassifier):
        raise FormatError("not a model file of this pipeline: no pipeline ending in SGDClassifier")
    reference = _reference(data) if fitted.validated else None
    model = TrainedModel(**vars(fitted), pipeline=pipeline, reference=reference)
    expected, found = np.array(facts["self_test"], np.float64), model.scores(_self_test(model))
    # processors differ in the last bits, code in the first ones
    if not np.abs(found - expected).max() <= _SAME * np.abs(expected).max():
        raise IncompatibleModelError(
            "this code computes other features than the model was fitted with, so its answers "
            "would be wrong: materialize sgd_model again, or return to that code"
        )
    return model


@_as_format_error()
def loads_fitted(data: bytes) -> Fitted:
    """Decode the facts about a model without opening its pipeline: of any scikit-learn.

    Raises FormatError where the bytes are not a model file.
    """
    return _facts(data)[0]


def _facts(data: bytes) -> tuple[Fitted, dict[str, Any]]:
    """Return the facts about a model, and all of the file's JSON."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        facts: dict[str, Any] = json.loads(file.read(_FACTS))
    known = {field.name: facts[field.name] for field in fields(Fitted)}
    known["origin"] = Origin(**known["origin"])
    if by := known["validated"]:
        row_id, prediction = np.array(by["row_id"], np.int32), np.array(by["prediction"], np.uint8)
        known["validated"] = Validated(**(by | {"row_id": row_id, "prediction": prediction}))
    return Fitted(**known), facts


def reloads_identically(model: TrainedModel, train: Digits) -> CheckResult:
    """The model, encoded and decoded, gives the same scores to the bit on training digits."""
    probe = train.pixels[:_PROBE]
    try:
        again = loads(dumps(model))
    except PipelineError as error:
        return CheckResult("reloads_identically", passed=False, description=str(error))
    same = np.array_equal(again.scores(probe), model.scores(probe))
    passed = same and again.data_version == model.data_version
    description = (
        f"scores of {len(probe):,} digits {'are' if passed else 'are not'} identical once reloaded"
    )
    return CheckResult("reloads_identically", bool(passed), description, {"digits": len(probe)})


def _self_test(model: TrainedModel) -> npt.NDArray[np.uint8]:
    """Return sixteen images for a model that are the same everywhere, uint8: noise."""
    noise = hashlib.shake_256(b"mnist_pipeline").digest(16 * model.width**2)
    return np.frombuffer(noise, np.uint8).reshape(16, -1)
