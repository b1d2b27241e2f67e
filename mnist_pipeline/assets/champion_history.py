"""Which model is in service, was, and is asked to be: from Dagster's history and a run's tags.

An asset cannot depend on itself, so the champion before is read from the newest materialization,
whose metadata holds it whole; what is decided about models is in `digits.evaluation.promotion`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.evaluation import promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.promotion import Rival, Ruling
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.incremental.engine import Engine
from mnist_pipeline.incremental.errors import FormatError, SettingsError, StoreError
from mnist_pipeline.incremental.history import deleted, newest, with_version
from mnist_pipeline.incremental.store import Store

CHAMPION = dg.AssetKey("champion_model")
MODEL = dg.AssetKey("sgd_model")
TRAIN = dg.AssetKey("train_set")

ROLL_BACK = "mnist_pipeline/roll_back"
"""Tag of a run of `champion_model`: the version to return to, or `previous`."""

ALLOW = "mnist_pipeline/allow"
"""Tag of a run of `champion_model`: the barred version to let through the gate, or `latest`."""

PREVIOUS = "previous"
LATEST = "latest"

RULING = "ruling"
"""Metadata of a materialization of `champion_model`: what was decided, and the champion then."""

_HISTORY = 1000


@dataclass(frozen=True)
class Past:
    """A ruling of the past, with its run and when it was (seconds since 1970).

    `candidate` is the data version of the model that was decided on, `accuracy` what it got right
    of its validation rows (None if that was not looked at).
    """

    timestamp: float
    run_id: str
    outcome: str
    why: str
    candidate: str
    champion: Champion
    accuracy: float | None


def rulings(instance: dg.DagsterInstance, limit: int = _HISTORY) -> list[Past]:
    """Return the rulings that Dagster has recorded, newest first."""
    found = []
    for made in newest(instance, CHAMPION, limit):
        if ruling := made.value(RULING):
            content: dict[str, Any] = dict(ruling)
            after = Champion(**content.pop("champion"))
            content["accuracy"] = made.value("validation_accuracy")
            found.append(Past(made.timestamp, made.run_id, champion=after, **content))
    return found


def deleted_with(instance: dg.DagsterInstance) -> str | None:
    """Return the run whose deletion took the newest decision, or None: then no record of it is."""
    for record in instance.get_asset_records([CHAMPION]):
        left = next(iter(newest(instance, CHAMPION, 1)), None)
        return deleted(record.asset_entry.last_materialization_record, left)
    return None


def champion_now(instance: dg.DagsterInstance) -> Champion:
    """Return the champion of now, of the whole history only where the newest event tells none."""
    return now(rulings(instance, 1) or rulings(instance))


def now(past: Sequence[Past]) -> Champion:
    """Return the champion after the newest of these rulings."""
    return past[0].champion if past else Champion()


def recorded(ruling: Ruling, candidate: str) -> dg.JsonMetadataValue:
    """Return what a materialization records of a ruling; `rulings` reads it again."""
    return dg.MetadataValue.json(
        {
            "outcome": ruling.outcome,
            "why": ruling.why,
            "candidate": candidate,
            "champion": asdict(ruling.champion),
        }
    )


def earlier(past: Sequence[Past], wanted: str) -> str:
    """Return the version of an earlier champion: by its version, how that begins, or `previous`.

    Raises
    ------
    SettingsError
        There is none, or it is barred.
    """
    present = now(past)
    were = [one.champion.model_version for one in past]
    others = [v for v in dict.fromkeys(were) if v and v != present.model_version]
    if wanted == PREVIOUS:
        found = [version for version in others if version not in present.barred][:1]
    else:
        found = _beginning_with(wanted, others)
        if found and found[0] in present.barred:
            why = present.barred[found[0]]
            raise SettingsError(f"model {found[0]} is barred ({why}): allow it first")
        if not found and _beginning_with(wanted, [present.model_version or ""]):
            raise SettingsError(f"model {present.model_version} is in service already")
    if len(found) != 1:
        known = [f"{v} (barred: allow it first)" if v in present.barred else v for v in others]
        raise SettingsError(
            f"cannot roll back to {wanted!r}; the earlier champions are "
            f"{', '.join(known) or 'none'}"
        )
    return found[0]


def barred(present: Champion, wanted: str) -> str:
    """Return a barred version: by its version, how that begins, or `latest`.

    Raises
    ------
    SettingsError
        There is none.
    """
    found = _beginning_with(wanted, present.barred)
    if wanted == LATEST:
        found = list(present.barred)[-1:]
    if len(found) != 1:
        known = ", ".join(present.barred) or "none"
        raise SettingsError(f"cannot allow {wanted!r}; the barred models are {known}")
    return found[0]


def _beginning_with(wanted: str, versions: Iterable[str]) -> list[str]:
    return [version for version in versions if wanted and version.startswith(wanted)]


def rolled_back(context: dg.AssetExecutionContext, store: Store, candidate: str) -> Ruling | None:
    """Return to the earlier champion that the run's tags ask for, if they do.

    Raises
    ------
    SettingsError
        There is no such champion.
    StoreError, FormatError
        Its file cannot be opened any more.
    """
    wanted = context.run.tags.get(ROLL_BACK)
    if wanted is None:
        return None
    past = rulings(context.instance)
    to = earlier(past, wanted)
    persistence.loads(_file(context.instance, store, to))
    decided_on = {one.candidate for one in past}
    return promotion.roll_back(now(past), to, None if candidate in decided_on else candidate)


def rule(
    context: dg.AssetExecutionContext,
    store: Store,
    candidate: TrainedModel,
    train: Digits,
    decide: Callable[[Champion, Rival | None], Ruling],
) -> Ruling:
    """Let `decide` compare the candidate with the champion, unblocked first if the tags say so.

    The step runs under a lock until its materialization is recorded: no other decision comes
    between the look at the champion and the record.

    Raises
    ------
    SettingsError
        The model to unblock is not blocked.
    """
    before = champion_now(context.instance)
    if wanted := context.run.tags.get(ALLOW):
        before = promotion.allow(before, barred(before, wanted))
    if before.model_version in {None, candidate.data_version}:
        return decide(before, None)
    try:
        fitted = persistence.loads_fitted(_file(context.instance, store, before.model_version))
    except (StoreError, FormatError) as error:
        return decide(before, Rival(None, f"the champion's file cannot be read: {error}"))
    return decide(before, promotion.rival_of(candidate, train, fitted, context.log.info))


def load_champion(instance: dg.DagsterInstance, store: Store) -> TrainedModel:
    """Open the model in service.

    Raises
    ------
    StoreError
        No model is in service, or its file is gone or damaged.
    FormatError
        Its file cannot be opened by the code or the libraries that are here.
    """
    version = champion_now(instance).model_version
    if version is None:
        raise StoreError("no model is in service yet: `mnist-pipeline refresh` makes one")
    try:
        return persistence.loads(_file(instance, store, version))
    except FormatError as error:
        raise FormatError(f"the champion, sgd_model {version}, cannot be used: {error}") from None


def training_digits(engine: Engine, instance: dg.DagsterInstance) -> Digits:
    """Open the newest training digits.

    Raises
    ------
    StoreError
        There are none, or their file is gone, damaged or refused.
    """
    for made in newest(instance, TRAIN, 1):
        digits: Digits = engine.load(instance, made)
        return digits
    raise StoreError("train_set was never materialized: run `mnist-pipeline refresh`")


def kept(instance: dg.DagsterInstance) -> dict[dg.AssetKey, set[str]]:
    """Return the data versions that garbage collection keeps: the champion's model."""
    version = champion_now(instance).model_version
    return {MODEL: {version}} if version else {}


def _file(instance: dg.DagsterInstance, store: Store, version: str | None) -> bytes:
    """Read the file of a model that some materialization of `sgd_model` recorded."""
    made = with_version(instance, store, MODEL, version or "")
    if made is None or (artifact := made.artifact(store)) is None:
        raise StoreError(
            f"{MODEL.to_user_string()} {version} is gone from the store. `mnist-pipeline refresh` "
            "computes it again if it is the newest model; else `mnist-pipeline champion "
            "--rollback` returns to an earlier one."
        )
    return store.read(artifact)
