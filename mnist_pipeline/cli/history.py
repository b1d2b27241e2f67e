"""The commands about what was materialized: list it, and remove files that nothing points at."""

import shlex
import sys
from typing import Any

import click

from mnist_pipeline.cli.output import Answer, Command, short, table, utc
from mnist_pipeline.cli.session import open_session

_FIELDS = ["asset", "timestamp", "data_version", "code_version", "trigger", "run_id", "reused_from"]


@click.command(cls=Command, nothing={"materializations": []})
@click.argument("asset", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def history(asset: str | None, limit: int) -> Answer:
    """List materializations, newest first: of everything, or of one ASSET."""
    with open_session() as session:
        keys = None if asset is None else session.select(f'key:"{asset}"')
        made = [
            {name: getattr(one, name) for name in _FIELDS}
            | {"accuracy": value if isinstance(value, float) else None}
            for one in session.history(keys, limit)
            for value in [one.value("accuracy")]
        ]
    return Answer({"materializations": made}, lambda: _table(made))


@click.command(cls=Command, nothing={"dry_run": True, "removed": [], "runs": []})
@click.option(
    "--keep",
    required=True,
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Keep what the newest N materializations of each asset point at.",
)
@click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only list them.")
def gc(keep: int, dry_run: bool) -> Answer:
    """Remove files that nothing points at any more, and old runs with their logs.

    The champion's model stays, however old.
    """
    with open_session() as session:
        found = session.collect_garbage(keep=keep, dry_run=dry_run)
        runs = session.prune(dry_run=dry_run)
        undefined = session.undefined()
    lines = [f"{one.size:>14,}  {one.path}" for one in found]
    total = f"{len(found)} files, {sum(one.size for one in found):,} bytes, and {len(runs)} runs"
    names = " ".join(undefined)
    left = f"\nNo longer defined, still in the catalog: {names}. To remove them and their history: "
    home, python = shlex.quote(str(session.pipeline.home)), shlex.quote(sys.executable)
    left += f"DAGSTER_HOME={home} {python} -m dagster asset wipe {names}"
    did = "would be removed: --no-dry-run does it" if dry_run else "removed"
    text = "\n".join([*lines, f"{total}, {did}."]) + (left if undefined else "")
    removed = [{"path": str(one.path), "bytes": one.size} for one in found]
    document = {"dry_run": dry_run, "removed": removed, "runs": runs, "undefined": undefined}
    return Answer(document, lambda: text)


def _table(made: list[dict[str, Any]]) -> str:
    rows = [
        [
            utc(one["timestamp"]),
            one["asset"],
            short(one["data_version"]),
            short(one["code_version"]),
            one["trigger"],
            "reused" if one["reused_from"] else "computed",
            "" if one["accuracy"] is None else f"{one['accuracy']:.2%}",
        ]
        for one in made
    ]
    heads = ["UTC", "asset", "data version", "code version", "trigger", "result", "accuracy"]
    return table(heads, rows) if rows else "Nothing was materialized yet."
