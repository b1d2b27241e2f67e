"""The commands about what was materialized: list it, and remove files that nothing points at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mnist_pipeline.cli.output import SHOWN, Answer, Command, table, utc
from mnist_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from mnist_pipeline.incremental.history import Event
    from mnist_pipeline.incremental.store import Garbage

_FIELDS = ["asset", "timestamp", "data_version", "code_version", "trigger", "run_id", "reused_from"]


@click.command(cls=Command, nothing={"materializations": []})
@click.argument("asset", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def history(asset: str | None, limit: int) -> Answer:
    """List materializations, newest first: of everything, or of one ASSET."""
    with open_session() as session:
        keys = None if asset is None else session.select(f'key:"{asset}"')
        made = session.history(keys, limit)
    found = [
        {field: getattr(one, field) for field in _FIELDS} | {"accuracy": _accuracy(one)}
        for one in made
    ]
    return Answer({"materializations": found}, lambda: _table(made))


@click.command(cls=Command, nothing={"dry_run": True, "removed": []})
@click.option(
    "--keep",
    required=True,
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Keep what the newest N materializations of each asset point at.",
)
@click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only list them.")
def gc(keep: int, dry_run: bool) -> Answer:
    """Remove files that nothing points at any more.

    The champion's model stays, however old.
    """
    with open_session() as session:
        found = session.collect_garbage(keep=keep, dry_run=dry_run)
    removed = [{"path": str(item.path), "bytes": item.size} for item in found]
    return Answer({"dry_run": dry_run, "removed": removed}, lambda: _removed(found, dry_run))


def _table(made: Sequence["Event"]) -> str:
    rows = [
        [
            utc(one.timestamp),
            one.asset,
            (one.data_version or "")[:SHOWN],
            (one.code_version or "")[:SHOWN],
            one.trigger or "unknown",
            "reused" if one.reused_from else "computed",
            "" if (accuracy := _accuracy(one)) is None else f"{accuracy:.2%}",
        ]
        for one in made
    ]
    if not rows:
        return "Nothing was materialized yet."
    heads = ["UTC", "asset", "data version", "code version", "trigger", "", "accuracy"]
    return table(heads, rows)


def _accuracy(one: "Event") -> float | None:
    found = one.metadata.get("accuracy")
    return float(found) if isinstance(found, int | float) else None


def _removed(found: Sequence["Garbage"], dry_run: bool) -> str:
    lines = [f"{item.size:>14,}  {item.path}" for item in found]
    total = sum(item.size for item in found)
    did = "would be removed: --no-dry-run does it" if dry_run else "removed"
    return "\n".join([*lines, f"{len(found)} files, {total:,} bytes, {did}."])
