"""The command line `mnist-pipeline`: thin, over the same definitions and instance as the UI.

Exit status: 0 done, 1 the work failed, 2 wrong usage or settings.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

import click

from mnist_pipeline.errors import SettingsError

_JSON = "--json"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """MNIST from the OpenML download to the evaluated model, as Dagster assets."""


@cli.command()
@click.option(
    "--select", metavar="SEL", help="A Dagster asset selection, for example 'key:sgd_model+'."
)
@click.option(_JSON, "as_json", is_flag=True, help="Print one JSON document on stdout.")
def run(select: str | None, as_json: bool) -> int:
    """Materialize all assets, or a selection of them."""
    from mnist_pipeline import running

    start = time.perf_counter()
    outcome = running.materialize(select)
    seconds = time.perf_counter() - start
    if as_json:
        _print_document(
            outcome.run_id, outcome.success, outcome.materialized, seconds, outcome.error
        )
    elif outcome.success:
        click.echo(_summary(outcome.metadata, seconds))
    else:
        click.echo(f"Failed: {outcome.error}", err=True)
    return 0 if outcome.success else 1


@cli.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> NoReturn:
    """Start the Dagster UI and daemon on 127.0.0.1, over the tracked home."""
    from mnist_pipeline import home
    from mnist_pipeline.params import Params
    from mnist_pipeline.settings import PROJECT, Settings

    settings = Settings.load()
    Params.load(settings.params_file)
    folder = home.prepare(settings)
    # Dagster loads a .env of its working directory over the environment; the home has none
    os.chdir(folder)
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--workspace", str(PROJECT / "workspace.yaml")])


def main() -> None:
    """Run the command line; every error that is the user's to mend ends in one message."""
    as_json = _JSON in sys.argv[1:]
    start = time.perf_counter()
    # until Dagster handles it, SIGTERM ends as SIGINT does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # whatever else a library prints goes to stderr
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        status, message = _status(as_json)
    if message and as_json:
        _print_document(None, False, [], time.perf_counter() - start, message)
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
    except Exception as error:  # noqa: BLE001 - reported whole, and as a failure
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"


def _print_document(
    run_id: str | None, success: bool, materialized: list[str], seconds: float, error: str | None
) -> None:
    document = {
        "run_id": run_id,
        "status": "success" if success else "failure",
        "materialized": materialized,
        "seconds": round(seconds, 3),
    }
    if error:
        document["error"] = error
    print(json.dumps(document), file=sys.__stdout__, flush=True)


def _summary(metadata: dict[str, dict[str, Any]], seconds: float) -> str:
    lines = [f"Done in {seconds:.1f} s: {', '.join(metadata)}."]
    if found := metadata.get("evaluation"):
        low, high = found["accuracy_low"], found["accuracy_high"]
        lines.append(
            f"  accuracy   {found['accuracy']:.2%} of {found['n_test']:,} test digits "
            f"(95% interval {low:.2%} to {high:.2%})"
        )
    if found := metadata.get("report"):
        lines.append(f"  report     {found['path']}")
    lines.append("  Dagster UI: make ui")
    if metadata.get("raw_mnist", {}).get("source") == "sample":
        lines.append("  all 70,000 digits: make run SOURCE=openml")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
