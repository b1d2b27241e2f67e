"""The commands that materialize assets, and the one that shows whether they need it."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from mnist_pipeline.cli.output import Answer, Command, table
from mnist_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from dagster import AssetKey

    from mnist_pipeline.incremental.session import RunResult, Session
    from mnist_pipeline.incremental.status import AssetStatus

_DONE_NOTHING = {"status": "failure", "materialized": [], "reused": [], "seconds": 0.0}

_DOCUMENTED = ["status", "causes", "data_version", "code_version", "path"]
_SHOWN_CAUSES = 6


@click.command(cls=Command, nothing={"run_id": None, **_DONE_NOTHING})
@click.option(
    "--select", metavar="SEL", help="A Dagster asset selection, for example 'key:sgd_model+'."
)
@click.option("--force", is_flag=True, help="Compute everything that is selected; reuse nothing.")
def run(select: str | None, force: bool) -> Answer:
    """Materialize all assets, or a selection: compute what changed, reuse the rest."""
    start = time.perf_counter()
    with open_session() as session:
        assets = None if select is None else session.select(select)
        done = session.run(assets, trigger="mnist-pipeline run", force=force)
    document = {"run_id": done.run_id, **_document(done, start)}
    return Answer(document, lambda: _run_summary(done, start), done.error, done.trace)


@click.command(cls=Command, nothing={"assets": []})
@click.option("--verify", is_flag=True, help="Read every file and compare its digest.")
def status(verify: bool) -> Answer:
    """Show the state of every asset, and why it is not up to date.

    Exits with 0 whatever it finds; with --verify, with 1 if a file is damaged.
    """
    with open_session() as session:
        found = session.status(verify=verify)
    names = {key.to_user_string(): one for key, one in found.items()}
    assets = [
        {"key": name} | {field: getattr(one, field) for field in _DOCUMENTED}
        for name, one in names.items()
    ]
    damaged = [name for name, one in names.items() if one.status == "damaged"]
    error = f"damaged: {', '.join(damaged)}" if verify and damaged else None
    return Answer({"assets": assets}, lambda: _statuses(found), error)


@click.command(cls=Command, nothing={**_DONE_NOTHING, "fresh": []})
@click.option("--verify", is_flag=True, help="Read every file; replace damaged ones.")
@click.option("--dry-run", is_flag=True, help="Only list what would be materialized.")
def refresh(verify: bool, dry_run: bool) -> Answer:
    """Bring everything up to date in one run: compute what changed, reuse the rest."""
    start = time.perf_counter()
    with open_session() as session:
        if dry_run:
            return _plan(session, verify, start)
        done = session.refresh(verify=verify, trigger="mnist-pipeline refresh")
    document = {**_document(done, start), "fresh": done.fresh}
    return Answer(document, lambda: _refresh_summary(done, start), done.error, done.trace)


def _plan(session: "Session", verify: bool, start: float) -> Answer:
    """Return what a refresh would materialize."""
    from mnist_pipeline.incremental.session import RunResult

    statuses = session.status(verify=verify)
    planned = session.plan(statuses)
    fresh = [key.to_user_string() for key, one in statuses.items() if one.status == "fresh"]
    text = (
        f"Would materialize, in one run: {', '.join(planned)}. What has not changed by then is "
        "reused."
        if planned
        else "Everything is up to date: nothing would be materialized."
    )
    nothing = _document(RunResult(None, [], [], None), start)
    return Answer({**nothing, "fresh": fresh, "planned": planned}, lambda: text)


def _document(done: "RunResult", start: float) -> dict[str, object]:
    return {
        "status": "success" if done.success else "failure",
        "materialized": done.computed,
        "reused": done.reused,
        "seconds": round(time.perf_counter() - start, 3),
    }


def _run_summary(done: "RunResult", start: float) -> str:
    """What a successful run did, and where to look next."""
    if not done.success:
        return ""
    metadata = done.metadata
    lines = [f"Done in {time.perf_counter() - start:.1f} s: {_did(done)}."]
    if found := metadata.get("evaluation"):
        low, high = found["accuracy_low"], found["accuracy_high"]
        lines.append(
            f"  accuracy   {found['accuracy']:.2%} of {found['n_test']:,} test digits "
            f"(95% interval {low:.2%} to {high:.2%})"
        )
    source = metadata.get("raw_mnist", {})
    if source.get("failed"):
        used = "the digits are" if source["downloaded"] else "the archive in the store is used,"
        lines.append(f"  OpenML     failed; {used} from {source['origin']}")
    if found := metadata.get("report"):
        lines.append(f"  report     {found['path']}")
    lines.append("  Dagster UI: make ui")
    if source.get("source") == "sample":
        lines.append("  all 70,000 digits: make run SOURCE=openml")
    return "\n".join(lines)


def _refresh_summary(done: "RunResult", start: float) -> str:
    if not done.success:
        return ""
    seconds = f"{time.perf_counter() - start:.1f} s"
    if done.run_id is None:
        return f"Everything is up to date ({seconds})."
    return f"Everything is up to date after {seconds}: {_did(done)}."


def _did(done: "RunResult") -> str:
    reused = f"; reused {', '.join(done.reused)}" if done.reused else ""
    return f"computed {', '.join(done.computed) or 'nothing'}{reused}"


def _statuses(found: Mapping["AssetKey", "AssetStatus"]) -> str:
    """One line an asset, and further ones for further causes."""
    rows = [
        [
            key.to_user_string(),
            "up to date" if one.status == "fresh" else one.status,
            _causes(one.causes),
        ]
        for key, one in found.items()
    ]
    return table(["asset", "status", "why"], rows)


def _causes(causes: Sequence[str]) -> str:
    more = len(causes) - _SHOWN_CAUSES
    return "\n".join([*causes[:_SHOWN_CAUSES], *([f"and {more} more"] if more > 0 else [])])
