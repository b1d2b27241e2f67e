"""Which model is and was the champion: from Dagster's history.

An asset cannot depend on itself, so the previous champion is read from the newest materialization,
whose metadata names it. `digits.evaluation.promotion` decides about models.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.errors import IncompatibleModelError
from mnist_pipeline.digits.evaluation import promotion
from mnist_pipeline.digits.evaluation.champion import Champion, Past
from mnist_pipeline.digits.evaluation.promotion import Decision
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.incremental import results
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.errors import SettingsError, StoreError
from mnist_pipeline.incremental.history import deleted, newest, recent
from mnist_pipeline.incremental.store import DamagedError, Store

CHAMPION = dg.AssetKey("champion_model")
MODEL = dg.AssetKey("sgd_model")
TRAIN = dg.AssetKey("train_set")

DECIDED = [CHAMPION, dg.AssetKey("report")]
"""What a rollback or an unblocked model materializes: the report shows the champion."""

ROLL_BACK = "mnist_pipeline/roll_back"
"""Tag of a run of `champion_model`: the version to return to, or `previous`."""

REJECTED = "mnist_pipeline/rejected"
"""Tag of such a run: the champion when it was asked for; another may be promoted before it runs."""

ALLOW = "mnist_pipeline/allow"
"""Tag of a run of `champion_model`: the blocked version to unblock, or `latest`."""

ACCEPT = "mnist_pipeline/accept"
"""Tag of a run of `champion_model`: the version to promote although it cannot be compared."""

PREVIOUS = "previous"
LATEST = "latest"

_DECIDED = "decided"
"""Metadata of every materialization of `champion_model`: when the model was decided on."""

_NONE = "none"
"""Metadata in place of the champion's version where there is no champion."""

_HISTORY = 1000


def decisions(instance: dg.DagsterInstance, limit: int = _HISTORY) -> list[Past]:
    """Return the decisions that Dagster has recorded, newest first.

    Where all events were wiped or deleted, the last decision is left.
    """
    made = recent(instance, CHAMPION, limit)
    if not made:
        return _kept(instance)
    found = [_past(one.run_id, one.metadata) for one in made]
    return [one for one in found if one]


def _kept(instance: dg.DagsterInstance) -> list[Past]:
    """Return the last decision, whatever happened to its event; none before the first."""
    kept = results.find(instance, CHAMPION, results.NEWEST)
    found = _past(kept.run_id, kept.metadata) if kept else None
    return [found] if found else []


def _past(run_id: str, metadata: Mapping[str, Any]) -> Past | None:
    if _DECIDED not in metadata:
        return None
    version, accuracy = metadata["model_version"].value, metadata.get("validation_accuracy")
    outcome, _, why = metadata["decision"].value.partition(": ")
    return Past(
        metadata[_DECIDED].value,
        run_id,
        outcome,
        why,
        metadata["candidate"].value,
        Champion(None if version == _NONE else version, metadata["blocked"].value),
        accuracy.value if accuracy else None,
    )


def record(decision: Decision, candidate: str) -> dict[str, dg.MetadataValue[Any]]:
    """Return what a materialization records of a decision; `decisions` reads it."""
    champion = decision.champion
    return {
        "decision": dg.MetadataValue.text(f"{decision.outcome}: {decision.why}"),
        "candidate": dg.MetadataValue.text(candidate),
        "model_version": dg.MetadataValue.text(champion.model_version or _NONE),
        "blocked": dg.MetadataValue.json(dict(champion.blocked)),
        _DECIDED: dg.MetadataValue.timestamp(time.time()),
    }


def is_wiped(instance: dg.DagsterInstance) -> bool:
    """Return whether the events of all decisions were wiped or deleted."""
    return not newest(instance, CHAMPION) and bool(_kept(instance))


def deleted_with(instance: dg.DagsterInstance) -> str | None:
    """Return the run that was deleted together with the newest decision, or None."""
    for found in instance.get_asset_records([CHAMPION]):
        left = newest(instance, CHAMPION)
        return deleted(found.asset_entry.last_materialization_record, left)
    return None


def champion_now(instance: dg.DagsterInstance) -> Champion:
    """Return the champion; the whole history is read only if the newest event records none."""
    return now(decisions(instance, 1) or decisions(instance))


def now(past: Sequence[Past]) -> Champion:
    """Return the champion after the newest of these decisions."""
    return past[0].champion if past else Champion()


def earlier(past: Sequence[Past], wanted: str) -> str:
    """Return the version of an earlier champion: by its version, how that begins, or `previous`.

    Raises SettingsError where no earlier champion is meant, several are, or it is blocked.
    """
    present = now(past)
    were = [one.champion.model_version for one in past]
    others = [v for v in dict.fromkeys(were) if v and v != present.model_version]
    allowed = [version for version in others if version not in present.blocked]
    found = allowed[:1] if wanted == PREVIOUS else _beginning_with(wanted, allowed)
    if len(found) != 1:
        known = [v if v in allowed else f"{v} (blocked: allow it first)" for v in others]
        raise SettingsError(
            f"cannot roll back to {wanted!r}: the champion is {present.model_version or 'none'}; "
            f"the earlier champions are {', '.join(known) or 'none'}"
        )
    return found[0]


def blocked(present: Champion, wanted: str) -> str:
    """Return a blocked version: by its version, how that begins, or `latest`.

    Raises SettingsError where no blocked version is meant, or several are.
    """
    found = _beginning_with(wanted, present.blocked)
    if wanted == LATEST:
        found = list(present.blocked)[-1:]
    if len(found) != 1:
        known = ", ".join(present.blocked) or "none"
        raise SettingsError(f"cannot allow {wanted!r}; the blocked models are {known}")
    return found[0]


def _beginning_with(wanted: str, versions: Iterable[str]) -> list[str]:
    return [version for version in versions if wanted and version.startswith(wanted)]


def rolled_back(
    instance: dg.DagsterInstance, store: Store, tags: Mapping[str, str], candidate: str
) -> Decision:
    """Return to the earlier champion that a run's tags name, whose file must open.

    Raises SettingsError where there is no such champion; StoreError, FormatError or
    IncompatibleModelError where its file cannot be opened any more.
    """
    past = decisions(instance)
    to = earlier(past, tags[ROLL_BACK])
    persistence.loads(read_model(instance, store, to))
    decided_on = {one.candidate for one in past}
    undecided = None if candidate in decided_on else candidate
    return promotion.roll_back(now(past), to, tags.get(REJECTED), undecided)


def before(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> Champion:
    """Return the champion before a decision, with the model unblocked that a run's tags name.

    Raises SettingsError where that model is not blocked.
    """
    champion = champion_now(instance)
    wanted = tags.get(ALLOW)
    return promotion.allow(champion, blocked(champion, wanted)) if wanted else champion


def refused(past: Sequence[Past], wanted: str) -> str:
    """Return the version of the newest refused model, which begins with the wanted text.

    Raises SettingsError where the newest decision was about another model, or refused none.
    """
    found = [one.candidate for one in past[:1] if one.outcome == "refused"]
    if not found:
        raise SettingsError(
            f"cannot accept {wanted!r}: the newest decision refused no model. Decide on the newest "
            "model again with `mnist-pipeline run --select key:champion_model`, then accept it"
        )
    if not _beginning_with(wanted, found):
        raise SettingsError(f"cannot accept {wanted!r}; the model refused last is {found[0]}")
    return found[0]


def is_accepted(candidate: str, tags: Mapping[str, str]) -> bool:
    """Return whether a run's tags accept a model.

    Raises SettingsError where they accept another one.
    """
    wanted = tags.get(ACCEPT)
    if wanted is not None and not _beginning_with(wanted, [candidate]):
        raise SettingsError(f"cannot accept {wanted!r}: the model to decide on is {candidate}")
    return wanted is not None


def load_champion(instance: dg.DagsterInstance, store: Store) -> TrainedModel:
    """Open the champion's model.

    Raises StoreError where there is no champion, or its file is gone or damaged; FormatError where
    it is not a model file; IncompatibleModelError where code or libraries differ from those here.
    """
    version = champion_now(instance).model_version
    if version is None:
        raise StoreError("there is no champion yet: run `mnist-pipeline refresh`")
    try:
        return persistence.loads(read_model(instance, store, version))
    except DamagedError as error:
        raise DamagedError(
            f"the champion, {error} `mnist-pipeline refresh --verify` restores it if its training "
            "digits are there; `mnist-pipeline champion --rollback` returns to an earlier one."
        ) from None
    except IncompatibleModelError as error:
        raise IncompatibleModelError(f"the champion, sgd_model {version}: {error}") from None


def training_digits(engine: Engine, instance: dg.DagsterInstance) -> Digits:
    """Open the newest training digits.

    Raises StoreError where they were never materialized, or their file is gone, damaged or refused.
    """
    if made := newest(instance, TRAIN):
        digits: Digits = engine.load(instance, made)
        return digits
    raise StoreError("train_set was never materialized: run `mnist-pipeline refresh`")


def model_of_champion(instance: dg.DagsterInstance) -> dict[dg.AssetKey, set[str]]:
    """Return the data version of the champion's model, by its asset."""
    version = champion_now(instance).model_version
    return {MODEL: {version}} if version else {}


def read_model(instance: dg.DagsterInstance, store: Store, version: str) -> bytes:
    """Read the file of a model that `sgd_model` computed.

    Raises DamagedError where it is gone or damaged, StoreError where the store does not answer.
    """
    artifact = results.artifact_of(instance, store, MODEL, version)
    if artifact:
        with contextlib.suppress(DamagedError):
            return store.read(artifact)
    where = f"from the store, or damaged there: {artifact.path}" if artifact else "from the history"
    raise DamagedError(f"sgd_model {version} is gone {where}.")
