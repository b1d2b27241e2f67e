"""Features in the store: whoever finds none makes them, the others wait and read.

They are a cache, found by what they are made from, and no asset: nobody but a fit reads them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mnist_pipeline.digits import shared_features
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.shared_features import Features
from mnist_pipeline.digits.validation import Parts
from mnist_pipeline.incremental import runs
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import Artifact, Store
from mnist_pipeline.params import ModelParams

ASSET = "features"
"""Their folder in the store: `features/<key>/features.npy`."""

KEY = "features"
"""Metadata of a candidate: the key of the features that it was fitted with."""


def key_of(params: ModelParams, train: Digits, code_version: str | None) -> str | None:
    """Return what features are found by, or None where a fit makes its own.

    Parameters
    ----------
    params : ModelParams
    train : Digits
    code_version : str
        Of the step that fits: its code, its libraries, and which rows it holds out.
    """
    if code_version is None or not shared_features.are_shared(params, train):
        return None
    made_from = {"train_set": train.data_version, "code_version": code_version}
    return content_digest(shared_features.params_of(params), made_from)


@contextmanager
def shared(
    context: dg.AssetExecutionContext, store: Store, key: str, params: ModelParams, parts: Parts
) -> Iterator[Features | None]:
    """Read the features of this key, made first if there are none; None if they do not fit here.

    Raises
    ------
    StoreError, FormatError
        They cannot be written or read.
    """
    log, instance = context.log, context.instance
    found = store.find(ASSET, key)
    if found is None:

        def waiting() -> None:
            log.info(f"somebody else makes features {key}: waiting for them")

        with runs.locks_of(instance, store).hold(f"{ASSET}-{key}", waiting):
            found = store.find(ASSET, key)
            if found is None:
                log.info(f"no features {key} in the store: making them")
                found = _published(store, key, params, parts)
    with store.local(found) as file:
        features = shared_features.read(file, params, parts)
        if features is None:
            log.info(f"features {key} are of another kind of processor: making them for this fit")
        yield features


def _published(store: Store, key: str, params: ModelParams, parts: Parts) -> Artifact:
    try:
        with tempfile.TemporaryDirectory(prefix="mnist-pipeline-") as folder:
            file = Path(folder) / shared_features.FILENAME
            shared_features.make(params, parts, file)
            return store.publish(ASSET, key, file.name, file)
    except OSError as error:
        raise StoreError(
            f"cannot write features in {tempfile.gettempdir()}: {error.strerror}. Make room there, "
            "or point TMPDIR to where there is some."
        ) from error
