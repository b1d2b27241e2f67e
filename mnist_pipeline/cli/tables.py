"""How the command line shows what it found: tables for people, lists for documents."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from dagster import AssetKey

from mnist_pipeline.assets.champion_history import Past
from mnist_pipeline.digits.data.shape import width_of
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
from mnist_pipeline.digits.images.classify import Reading
from mnist_pipeline.digits.sources.registry import named
from mnist_pipeline.incremental.history import Event
from mnist_pipeline.incremental.session import RunResult
from mnist_pipeline.incremental.status import AssetStatus
from mnist_pipeline.incremental.store import Garbage

_DOCUMENTED = ["status", "causes", "data_version", "code_version", "path"]
_STATE = {"fresh": "up to date"}
"""Words for people, where those of the documents are others."""

_SHOWN_CAUSES = 6

_SHADES = " .:+*#%@"
_SHOWN = 12
"""Characters of a version: enough to tell two apart."""


def run_summary(done: RunResult, seconds: float) -> str:
    """What a successful run did, and where to look next."""
    metadata = done.metadata
    lines = [f"Done in {seconds:.1f} s: {_did(done)}."]
    if found := metadata.get("evaluation"):
        low, high = found["accuracy_low"], found["accuracy_high"]
        lines.append(
            f"  accuracy   {found['accuracy']:.2%} of {found['n_test']:,} test digits "
            f"(95% interval {low:.2%} to {high:.2%})"
        )
    source = metadata.get("raw_mnist", {})
    if source.get("failed"):
        where = (
            "the digits are"
            if source["downloaded"]
            else "the archive in the store is used, which is"
        )
        lines.append(f"  OpenML     failed; {where} from {source['origin']}")
    if found := metadata.get("report"):
        lines.append(f"  report     {found['path']}")
    lines.append("  Dagster UI: make ui")
    if source and (hint := named(source["source"]).hint):
        lines.append(f"  {hint}")
    return "\n".join(lines)


def refresh_summary(done: RunResult, seconds: float) -> str:
    """What a successful refresh did."""
    if done.run_id is None:
        return f"Everything is up to date ({seconds:.1f} s)."
    return f"Everything is up to date after {seconds:.1f} s: {_did(done)}."


def _did(done: RunResult) -> str:
    parts = [f"computed {', '.join(done.computed)}"] if done.computed else ["computed nothing"]
    parts += [f"reused {', '.join(done.reused)}"] if done.reused else []
    return "; ".join(parts)


def statuses(found: Mapping[AssetKey, AssetStatus]) -> str:
    """One line an asset, and further ones for further causes."""
    rows = [
        [key.to_user_string(), _STATE.get(one.status, one.status), _causes(one.causes)]
        for key, one in found.items()
    ]
    return _table(["asset", "status", "why"], rows)


def _causes(causes: Sequence[str]) -> str:
    more = len(causes) - _SHOWN_CAUSES
    return "\n".join([*causes[:_SHOWN_CAUSES], *([f"and {more} more"] if more > 0 else [])])


def statuses_document(found: Mapping[AssetKey, AssetStatus]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {"key": key.to_user_string()} | {name: getattr(one, name) for name in _DOCUMENTED}
        for key, one in found.items()
    ]


def plan(keys: Sequence[str]) -> str:
    """What a refresh would materialize."""
    if not keys:
        return "Everything is up to date: nothing would be materialized."
    return (
        f"Would materialize, in one run: {', '.join(keys)}. What has not changed by then is reused."
    )


def event(item: Event) -> dict[str, object]:
    """A materialization, for programs."""
    return {
        "asset": item.asset,
        "timestamp": item.timestamp,
        "data_version": item.data_version,
        "code_version": item.code_version,
        "trigger": item.trigger,
        "run_id": item.run_id,
        "reused_from": item.reused_from,
        "accuracy": _accuracy(item),
    }


def history(made: Sequence[Event]) -> str:
    """One line a materialization."""
    rows = [
        [
            _utc(item.timestamp),
            item.asset,
            (item.data_version or "")[:_SHOWN],
            (item.code_version or "")[:_SHOWN],
            item.trigger or "unknown",
            "reused" if item.reused_from else "computed",
            "" if (accuracy := _accuracy(item)) is None else f"{accuracy:.2%}",
        ]
        for item in made
    ]
    if not rows:
        return "Nothing was materialized yet."
    heads = ["UTC", "asset", "data version", "code version", "trigger", "", "accuracy"]
    return _table(heads, rows)


def _accuracy(item: Event) -> float | None:
    found = item.metadata.get("accuracy")
    return float(found) if isinstance(found, int | float) else None


def rulings(past: Sequence[Past], deleted_with: str | None = None) -> str:
    """Which model is in service, which are barred, and one line a decision."""
    lost = []
    if deleted_with:
        lost = [
            f"A newer decision was deleted with run {deleted_with}: this is what the records that "
            "are left say. `mnist-pipeline refresh` decides again."
        ]
    if not past:
        return "\n".join([*lost, "No decision is recorded: materialize champion_model."])
    champion = past[0].champion
    rows = [
        [
            _utc(one.timestamp),
            one.candidate[:_SHOWN],
            one.outcome,
            (one.champion.model_version or "none")[:_SHOWN],
            one.why,
        ]
        for one in past
    ]
    barred = [f"Barred: {version} ({why})." for version, why in champion.barred.items()]
    return "\n".join(
        [
            *lost,
            f"In service: {champion.model_version or 'no model'}.",
            *barred,
            _table(["UTC", "newest model", "outcome", "champion then", "why"], rows),
        ]
    )


def leaderboard(board: Leaderboard) -> str:
    """One line a variant, best first; then those that were left out."""
    rows = [
        [
            str(place),
            one.variant,
            f"{one.accuracy:.2%}",
            "{:.2%} to {:.2%}".format(*one.accuracy_interval),
            f"{one.only_this_right} / {one.only_best_right}" if place > 1 else "",
            f"{one.p_value:.3g}" if place > 1 else "",
            board.differences(one),
        ]
        for place, one in enumerate(board.entries, 1)
    ]
    heads = ["", "variant", "accuracy", "95% interval", "won / lost", "p", "differs in"]
    left = [f"Left out: {name}, {why}." for name, why in board.left_out.items()]
    return "\n".join([f"On {board.n_validation:,} validation rows:", _table(heads, rows), *left])


def readings(found: Sequence[tuple[str, Reading | PictureError]]) -> str:
    """What was read in each picture and what the model saw of it, or why nothing was."""
    rows = []
    for path, reading in found:
        name = "".join(letter if letter.isprintable() else "?" for letter in path)
        if isinstance(reading, PictureError):
            rows.append([name, "-", "", f"{reading}"])
            continue
        second = int(reading.probabilities.argsort()[-2])
        sure = f"{reading.confidence:.1%}\n({second}: {reading.probabilities[second]:.1%})"
        rows.append([name, str(reading.digit), sure, _picture(reading.seen)])
    return _table(["picture", "digit", "confidence", "what the model saw"], rows)


def leftovers(found: Sequence[Garbage], *, dry_run: bool) -> str:
    """What nothing points at, and what became of it."""
    lines = [f"{item.size:>14,}  {item.path}" for item in found]
    total = sum(item.size for item in found)
    did = "would be removed: --no-dry-run does it" if dry_run else "removed"
    return "\n".join([*lines, f"{len(found)} artifacts, {total:,} bytes, {did}."])


def _utc(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _picture(pixels: npt.NDArray[np.uint8]) -> str:
    """Draw a digit, of shape (pixels,), in letters, which are about twice as high as wide."""
    width = width_of(pixels)
    rows = np.pad(pixels.reshape(width, width), ((0, width % 2), (0, 0)))
    ink = rows.reshape(-1, 2, width).mean(axis=1)
    shades = np.array(list(_SHADES))[(ink * len(_SHADES) / 256).astype(int)]
    inked = [np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0)]
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in inked)
    return "\n".join("".join(line) for line in shades[top:bottom, left:right])


def _table(headers: list[str], rows: list[list[str]]) -> str:
    import tabulate

    tabulate.PRESERVE_WHITESPACE = True  # of pictures
    return tabulate.tabulate(rows, headers, tablefmt="plain", disable_numparse=True)
