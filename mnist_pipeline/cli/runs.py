"""The commands that materialize assets, and the one that shows what is not up to date."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mnist_pipeline.cli.output import Answer, Command, table
from mnist_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from mnist_pipeline.incremental.history import Materialization
    from mnist_pipeline.incremental.session import RunResult, Session

_NOTHING = {"status": "failure", "materialized": [], "reused": [], "seconds": 0.0}

_DOCUMENTED = ["status", "causes", "data_version", "code_version", "path"]


@click.command(cls=Command, nothing={"run_id": None, **_NOTHING})
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
    return Answer(document, lambda: _summary(done, start), done.error, done.trace)


@click.command(cls=Command, nothing={"assets": []})
@click.option("--verify", is_flag=True, help="Read every file and compare its digest.")
def status(verify: bool) -> Answer:
    """Show the state of every asset, and why it is not up to date.

    Exits with 0 whatever it finds; with --verify, with 1 if a file is damaged.
    """
    import dagster as dg

    with open_session() as session:
        found = session.status(verify=verify)
        evaluated = session.history([dg.AssetKey("evaluation")], limit=1)
        sizes = None if verify else session.local_sizes(found)
    assets: list[dict[str, Any]] = [
        {"key": key.to_user_string()} | {name: getattr(one, name) for name in _DOCUMENTED}
        for key, one in found.items()
    ]
    damaged = [one["key"] for one in assets if one["status"] == "damaged"]
    error = f"damaged: {', '.join(damaged)}" if verify and damaged else None
    return Answer({"assets": assets}, lambda: _statuses(assets, evaluated), error, sizes=sizes)


@click.command(cls=Command, nothing={**_NOTHING, "fresh": []})
@click.option("--verify", is_flag=True, help="Read every file; replace damaged ones.")
@click.option("--dry-run", is_flag=True, help="Only list what would be materialized.")
def refresh(verify: bool, dry_run: bool) -> Answer:
    """Bring everything up to date in one run: compute what changed, reuse the rest."""
    start = time.perf_counter()
    with open_session() as session:
        if dry_run:
            return _plan(session, verify, start)
        done = session.refresh(verify=verify, trigger="mnist-pipeline refresh")
        sizes = None if verify or done.run_id else session.local_sizes(session.status())
    document = {**_document(done, start), "fresh": done.fresh}
    after = f" after {document['seconds']:.1f} s: {_did(done)}" if done.run_id else ""
    text = f"Everything is up to date{after}." if done.success else ""
    return Answer(document, lambda: text, done.error, done.trace, sizes=sizes)


def _plan(session: "Session", verify: bool, start: float) -> Answer:
    statuses = session.status(verify=verify)
    planned = session.plan(statuses)
    document = {
        **_NOTHING,
        "status": "success",
        "fresh": [key.to_user_string() for key, one in statuses.items() if one.status == "fresh"],
        "seconds": _since(start),
        "planned": planned,
    }
    what = f"Would materialize, in one run: {', '.join(planned)}. What has not changed is reused."
    text = what if planned else "Everything is up to date: nothing would be materialized."
    return Answer(document, lambda: text)


def _document(done: "RunResult", start: float) -> dict[str, object]:
    return {
        "status": "success" if done.success else "failure",
        "materialized": done.computed,
        "reused": done.reused,
        "seconds": _since(start),
    }


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


def _did(done: "RunResult") -> str:
    reused = f"; reused {', '.join(done.reused)}" if done.reused else ""
    return f"computed {', '.join(done.computed) or 'nothing'}{reused}"


def _summary(done: "RunResult", start: float) -> str:
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
        lines.append(f"  digits     {found['digits']}")
    if found := metadata.get("champion_model"):
        lines.append(f"  champion   {found['decision']}")
    from mnist_pipeline.config.settings import IN_CLONE
    from mnist_pipeline.digits.sources import registry

    source = metadata.get("raw_mnist", {})
    if source.get("failed"):
        used = "the digits are" if source["downloaded"] else "the archive in the store is used,"
        lines.append(f"  OpenML     failed; {used} from {source['origin']}")
    if found := metadata.get("report"):
        lines.append(f"  report     {found['path']}")
    lines.append(f"  Dagster UI: {'make' if IN_CLONE else 'mnist-pipeline'} ui")
    if source and (name := registry.named(source["source"]).larger):
        command = (
            f"make run SOURCE={name}" if IN_CLONE else f"MNIST_SOURCE={name} mnist-pipeline run"
        )
        lines.append(f"  all 70,000 digits: {command}")
    return "\n".join(lines)


def _statuses(assets: list[dict[str, Any]], evaluated: "Sequence[Materialization]") -> str:
    """One line an asset, and further ones for further causes; whose digits were evaluated."""
    words = {"fresh": "up to date"}
    rows = [
        [one["key"], words.get(one["status"], one["status"]), "\n".join(one["causes"])]
        for one in assets
    ]
    digits = [one.value("digits") for one in evaluated]
    whose = [f"Evaluated on {text}." for text in digits if text]
    return "\n".join([table(["asset", "status", "why"], rows), *whose])
