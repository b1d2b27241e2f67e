"""The champion with its cards, data and evaluation, as a folder that can be given to others."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from mnist_pipeline.assets import champion_history
from mnist_pipeline.assets.champion_history import MODEL, TRAIN
from mnist_pipeline.digits.report import cards
from mnist_pipeline.digits.report.cards import Listed
from mnist_pipeline.incremental import files, history
from mnist_pipeline.incremental.engine import COMPUTED_WITH, Engine
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.history import Materialization
from mnist_pipeline.incremental.store import Artifact

MODEL_CARD = "README.md"
DATA_CARD = "croissant.json"

_EVALUATION = dg.AssetKey("evaluation")
_TEST = dg.AssetKey("test_set")
_FURTHER = frozenset({dg.AssetKey("predictions"), MODEL, TRAIN, _TEST})
_COPIED = (MODEL, _EVALUATION, TRAIN, _TEST)


def export(engine: Engine, instance: dg.DagsterInstance, folder: Path) -> list[Path]:
    """Write the champion's files and cards into a folder that has none of them; return the paths.

    Raises StoreError where there is no champion, what it was computed from is gone or damaged, or
    the folder has files of these names or cannot be written.
    """
    made = _of_champion(engine, instance)
    artifacts = {key: one.artifact(engine.store) for key, one in made.items()}
    found = {key: artifact for key, artifact in artifacts.items() if artifact}
    model, evaluation = (engine.load(instance, made[key]) for key in (MODEL, _EVALUATION))
    listed = {key: _listed(found[key], made[key]) for key in _COPIED}
    libraries = (made[MODEL].value(COMPUTED_WITH) or {}).get("libraries", {})
    written = {
        MODEL_CARD: cards.model_card(
            model, evaluation, listed[MODEL], listed[_TEST].version, libraries
        ),
        DATA_CARD: cards.data_card(model, listed[TRAIN], listed[_TEST]),
    }
    paths = [folder / name for name in [*(listed[key].name for key in _COPIED), *written]]
    if existing := [path.name for path in paths if path.exists() or path.is_symlink()]:
        raise StoreError(
            f"{folder} has {', '.join(existing)}: nothing is overwritten. Name another folder."
        )
    beside = files.temporary(folder / "export")
    try:
        beside.mkdir(parents=True)
        for key in _COPIED:
            with engine.store.local(found[key]) as file:
                shutil.copyfile(file, beside / file.name)
        for name, text in written.items():
            (beside / name).write_text(text, encoding="utf-8")
        for path in paths:
            (beside / path.name).rename(path)
    except OSError as error:
        raise StoreError(f"cannot write {error.filename}: {error.strerror}") from None
    finally:
        files.remove(beside)
    return paths


def _of_champion(
    engine: Engine, instance: dg.DagsterInstance
) -> Mapping[dg.AssetKey, Materialization]:
    """Return the newest evaluation of the champion, and all that it was computed from."""
    version = champion_history.champion_now(instance).model_version
    if version is None:
        raise StoreError("there is no champion yet: run `mnist-pipeline refresh`")
    gone = f"no evaluation of the champion, sgd_model {version}, is recorded"
    for evaluation in history.all_of(instance, _EVALUATION):
        try:
            read = engine.further(instance, {_EVALUATION: evaluation}, _FURTHER)
        except StoreError as error:
            gone = str(error)
            continue
        if read[MODEL].data_version == version:
            return {_EVALUATION: evaluation, **read}
    raise StoreError(f"{gone}. `mnist-pipeline refresh` evaluates the newest model.")


def _listed(artifact: Artifact, made: Materialization) -> Listed:
    return Listed(artifact.filename, artifact.sha256, artifact.size, made.data_version or "")
