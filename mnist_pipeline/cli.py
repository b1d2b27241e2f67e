"""The command line `mnist-pipeline`: thin, over the same definitions and instance as the UI.

Exit status: 0 done, 1 the work failed, 2 wrong usage or settings.
"""

import json
import os
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
    "--select", metavar="SEL", help="A Dagster asset selection, for example 'sgd_model*'."
)
@click.option(_JSON, "as_json", is_flag=True, help="Print one JSON document on stdout.")
def run(select: str | None, as_json: bool) -> int:
    """Materialize all assets, or a selection of them."""
    from mnist_pipeline import running

    start = time.perf_counter()
    outcome = running.materialize(select)
    seconds = round(time.perf_counter() - start, 3)
    document = {
        "run_id": outcome.run_id,
        "status": "success" if outcome.success else "failure",
        "materialized": outcome.materialized,
        "seconds": seconds,
    }
    if outcome.error:
        document["error"] = outcome.error
    if as_json:
        click.echo(json.dumps(document))
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
    from mnist_pipeline.settings import PROJECT, Settings

    folder = home.prepare(Settings.load())
    # Dagster loads a .env of its working directory over the environment; the home has none
    os.chdir(folder)
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--workspace", str(PROJECT / "workspace.yaml")])


def main() -> None:
    """Run the command line; every error that is the user's to mend ends in one message."""
    as_json = _JSON in sys.argv[1:]
    start = time.perf_counter()
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except SettingsError as error:
        message, status = str(error), 2
    except click.UsageError as error:
        message, status = error.format_message(), 2
        if not as_json and error.ctx:
            click.echo(error.ctx.get_usage(), err=True)
    except click.Abort:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - reported whole, and as a failure
        traceback.print_exc()
        message, status = f"{type(error).__name__}: {error}", 1
    if as_json:
        document: dict[str, object] = {
            "run_id": None,
            "status": "failure",
            "materialized": [],
            "seconds": round(time.perf_counter() - start, 3),
            "error": message,
        }
        click.echo(json.dumps(document))
    else:
        click.echo(f"Error: {message}", err=True)
    sys.exit(status)


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
