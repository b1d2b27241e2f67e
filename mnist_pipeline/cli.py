"""The command line `mnist-pipeline`: thin, over the same definitions and instance as the UI.

Exit status: 0 done, 1 the work failed, 2 wrong usage or settings.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

import click

from mnist_pipeline import documents
from mnist_pipeline.experimenting import compare, promote
from mnist_pipeline.incremental.errors import PipelineError, SettingsError
from mnist_pipeline.trying import draw, predict
from mnist_pipeline.upkeep import as_json_option, champion, gc, history


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """MNIST from the OpenML download to the evaluated model, as Dagster assets."""


@cli.command()
@click.option(
    "--select", metavar="SEL", help="A Dagster asset selection, for example 'key:sgd_model+'."
)
@as_json_option
def run(select: str | None, as_json: bool) -> int:
    """Materialize all assets, or a selection of them."""
    from mnist_pipeline import running, tables

    start = time.perf_counter()
    outcome = running.materialize(select)
    seconds = _since(start)
    if as_json:
        documents.write(
            outcome.error,
            run_id=outcome.run_id,
            status=documents.word(outcome.success),
            materialized=outcome.materialized,
            seconds=seconds,
        )
    elif outcome.success:
        click.echo(tables.run_summary(outcome.metadata, seconds))
    else:
        click.echo(f"Failed: {outcome.error}", err=True)
    return 0 if outcome.success else 1


@cli.command()
@click.option("--verify", is_flag=True, help="Read every artifact and compare its digest.")
@as_json_option
def status(verify: bool, as_json: bool) -> int:
    """Say of every asset whether it is fresh, and if not, why.

    Exits with 0 whatever it finds; with --verify, with 1 if an artifact is damaged.
    """
    from mnist_pipeline import running, tables
    from mnist_pipeline.incremental.status import assess

    with running.opened() as pipeline:
        standings = assess(pipeline.graph, pipeline.instance, pipeline.store, verify=verify)
    damaged = [
        key.to_user_string() for key, found in standings.items() if found.status == "damaged"
    ]
    error = f"damaged: {', '.join(damaged)}" if verify and damaged else None
    if as_json:
        documents.write(
            error,
            assets=tables.standings_document(standings),
        )
    else:
        click.echo(tables.standings(standings))
    return 1 if error else 0


@cli.command()
@click.option("--verify", is_flag=True, help="Read every artifact; make damaged ones again.")
@click.option("--dry-run", is_flag=True, help="Only say what would be made first, and after it.")
@as_json_option
def refresh(verify: bool, dry_run: bool, as_json: bool) -> int:
    """Recompute what is not fresh, in waves, and nothing else.

    What comes out as it was leaves everything below it fresh.
    """
    from mnist_pipeline import running, tables
    from mnist_pipeline.incremental import refresh

    start = time.perf_counter()
    with running.opened() as pipeline:
        arguments = pipeline.job, pipeline.instance, pipeline.store
        if dry_run:
            plan = refresh.plan(*arguments, verify=verify)
            if as_json:
                document = {"materialized": [], "seconds": _since(start)} | dataclasses.asdict(plan)
                documents.write(None, status="success", **document)
            else:
                click.echo(tables.plan(plan))
            return 0
        refreshed = refresh.refresh(
            *arguments,
            trigger="mnist-pipeline refresh",
            changed=pipeline.changed,
            verify=verify,
            say=lambda text: click.echo(text, err=True),
        )
    if as_json:
        documents.write(
            refreshed.error,
            status=documents.word(refreshed.error is None),
            materialized=refreshed.materialized,
            fresh=refreshed.fresh,
            seconds=_since(start),
        )
    elif refreshed.error is None:
        made = ", ".join(refreshed.materialized) or "nothing, it was already"
        click.echo(f"All is fresh after {_since(start):.1f} s; materialized: {made}.")
    else:
        click.echo(f"Failed: {refreshed.error}", err=True)
    return 1 if refreshed.error else 0


@cli.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def ui(port: int, host: str) -> NoReturn:
    """Start the Dagster UI and daemon over the tracked home, on 127.0.0.1 unless told otherwise."""
    from mnist_pipeline import running
    from mnist_pipeline.incremental import runs
    from mnist_pipeline.settings import PROJECT, Settings

    try:
        socket.getaddrinfo(host or "(empty)", port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"--host {host!r} is no address to listen on: {error}") from None
    # what is wrong is better said here than in a browser, and so is what was interrupted
    with running.opened() as pipeline:
        folder = Settings.load().dagster_home
        keys = pipeline.graph.get_all_asset_keys()
        for run in runs.unfinished(pipeline.instance, [pipeline.job.name], keys):
            click.echo(f"run {run.run_id} is in progress and goes on", err=True)
    if host not in {"127.0.0.1", "::1", "localhost"}:
        click.echo(
            f"Listening on {host}: whoever reaches port {port} there can see everything, launch "
            "runs and delete history. SECURITY.md says how to put a proxy before it.",
            err=True,
        )
    # Dagster loads a .env of its working directory over the environment; the home has none
    os.chdir(folder)
    command = [sys.executable, "-m", "dagster", "dev", "--host", host, "--port", str(port)]
    os.execv(sys.executable, [*command, "--workspace", str(PROJECT / "workspace.yaml")])


for command in (history, champion, gc, compare, promote, predict, draw):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every error that is the user's to mend ends in one message."""
    as_json = documents.OPTION in sys.argv[1:]
    # until Dagster handles it, SIGTERM ends as SIGINT does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Dagster handles SIGTERM as it finds SIGINT handled, which a script ignores for what it starts
    # in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # whatever else a library prints goes to stderr
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        status, message = _status(as_json)
    if message and as_json:
        documents.write(message, **documents.of_nothing(sys.argv[1:]))
    elif message:
        click.echo(f"Error: {message}", err=True)
    sys.exit(status)


def _status(as_json: bool) -> tuple[int, str | None]:
    try:
        return cli.main(standalone_mode=False) or 0, None
    except SettingsError as error:
        return 2, str(error)
    except click.UsageError as error:
        if as_json:
            return 2, error.format_message()
        error.show()
        return 2, None
    except (click.Abort, KeyboardInterrupt):
        return 1, "interrupted"
    except PipelineError as error:
        return 1, str(error)
    except Exception as error:  # noqa: BLE001 - reported whole, and as a failure
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


if __name__ == "__main__":
    main()
