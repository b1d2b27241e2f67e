"""The command line `mnist-pipeline`: thin, over the same definitions and instance as the UI.

Exit status: 0 done, 1 the work failed, 2 wrong usage or settings.
"""

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

import click

from mnist_pipeline.cli import documents
from mnist_pipeline.cli.experiments import compare, promote
from mnist_pipeline.cli.predict import draw, predict
from mnist_pipeline.cli.upkeep import as_json_option, champion, gc, history
from mnist_pipeline.incremental.errors import PipelineError, SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """MNIST from the OpenML download to the evaluated model, as Dagster assets."""


@cli.command()
@click.option(
    "--select", metavar="SEL", help="A Dagster asset selection, for example 'key:sgd_model+'."
)
@click.option("--force", is_flag=True, help="Compute everything that is selected; reuse nothing.")
@as_json_option
def run(select: str | None, force: bool, as_json: bool) -> int:
    """Materialize all assets, or a selection: compute what changed, reuse the rest."""
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    start = time.perf_counter()
    with open_session() as session:
        assets = None if select is None else session.select(select)
        done = session.run(assets, trigger="mnist-pipeline run", force=force)
    seconds = _since(start)
    if as_json:
        documents.write(
            done.error,
            run_id=done.run_id,
            status=documents.word(done.success),
            materialized=done.computed,
            reused=done.reused,
            seconds=seconds,
        )
    elif done.success:
        click.echo(tables.run_summary(done, seconds))
    else:
        click.echo(f"Failed: {done.error}", err=True)
    return 0 if done.success else 1


@cli.command()
@click.option("--verify", is_flag=True, help="Read every artifact and compare its digest.")
@as_json_option
def status(verify: bool, as_json: bool) -> int:
    """Show the state of every asset, and why it is not up to date.

    Exits with 0 whatever it finds; with --verify, with 1 if an artifact is damaged.
    """
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    with open_session() as session:
        found = session.status(verify=verify)
    damaged = [key.to_user_string() for key, one in found.items() if one.status == "damaged"]
    error = f"damaged: {', '.join(damaged)}" if verify and damaged else None
    if as_json:
        documents.write(error, assets=tables.statuses_document(found))
    else:
        click.echo(tables.statuses(found))
    return 1 if error else 0


@cli.command()
@click.option("--verify", is_flag=True, help="Read every artifact; replace damaged ones.")
@click.option("--dry-run", is_flag=True, help="Only list what would be materialized.")
@as_json_option
def refresh(verify: bool, dry_run: bool, as_json: bool) -> int:
    """Bring everything up to date in one run: compute what changed, reuse the rest."""
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session
    from mnist_pipeline.incremental.session import RunResult

    start = time.perf_counter()
    with open_session() as session:
        if dry_run:
            statuses = session.status(verify=verify)
            planned = session.plan(statuses)
            fresh = [key.to_user_string() for key, one in statuses.items() if one.status == "fresh"]
            done = RunResult(None, [], [], None, fresh=fresh)
        else:
            done = session.refresh(verify=verify, trigger="mnist-pipeline refresh")
    if as_json:
        documents.write(
            done.error,
            status=documents.word(done.success),
            materialized=done.computed,
            reused=done.reused,
            fresh=done.fresh,
            seconds=_since(start),
            **({"planned": planned} if dry_run else {}),
        )
    elif dry_run:
        click.echo(tables.plan(planned))
    elif done.success:
        click.echo(tables.refresh_summary(done, _since(start)))
    else:
        click.echo(f"Failed: {done.error}", err=True)
    return 0 if done.success else 1


@cli.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def ui(port: int, host: str) -> NoReturn:
    """Start the Dagster UI and daemon over the tracked home, on 127.0.0.1 unless told otherwise."""
    from mnist_pipeline.cli.session import open_session
    from mnist_pipeline.config.settings import PROJECT, Settings

    try:
        socket.getaddrinfo(host or "(empty)", port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"--host {host!r} is no address to listen on: {error}") from None
    # what is wrong or was interrupted is reported here, not only in a browser
    with open_session() as session:
        folder = Settings.load().dagster_home
        for run in session.unfinished():
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
