"""The command line `mnist-pipeline`: thin, over the same definitions and instance as the UI.

Exit status: 0 done, 1 the work failed, 2 wrong usage or settings.
"""

import os
import signal
import sys
import traceback
from typing import TextIO

import click

from mnist_pipeline.cli.champion import champion
from mnist_pipeline.cli.experiments import compare, promote
from mnist_pipeline.cli.export import export
from mnist_pipeline.cli.history import gc, history
from mnist_pipeline.cli.init import init
from mnist_pipeline.cli.output import Answer, debug_flag, show
from mnist_pipeline.cli.predict import draw, predict
from mnist_pipeline.cli.report import report
from mnist_pipeline.cli.runs import refresh, run, status
from mnist_pipeline.cli.ui import ui
from mnist_pipeline.incremental.errors import PipelineError, SettingsError
from mnist_pipeline.incremental.unchanged import QuickAnswers


@click.version_option(package_name="dagster-mnist-pipeline")
@click.group(params=[debug_flag()], context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """MNIST from the OpenML download to the evaluated model, as Dagster assets."""


for command in (run, status, refresh, history, champion, gc, compare, promote):
    cli.add_command(command)
for command in (report, predict, draw, export, ui, init):
    cli.add_command(command)


class OutputError(PipelineError):
    """An answer cannot be printed."""


def main(quick: QuickAnswers | None = None) -> None:
    """Run the command line; a failure ends in one message, or in the command's one document.

    `quick` keeps the answers of commands that find everything up to date.
    """
    # until Dagster handles it, SIGTERM ends as SIGINT does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Dagster handles SIGTERM as it finds SIGINT handled, which a script ignores for what it starts
    # in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(_status(sys.argv[1:], quick))


def _status(arguments: list[str], quick: QuickAnswers | None = None) -> int:
    """Run a command and print its answer; return the exit status."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, out = "--json" in options, sys.stdout
    if as_json:
        # to the end: threads of a fit that was interrupted go on printing
        sys.stdout = sys.stderr
    try:
        answer = cli.main(arguments, standalone_mode=False, obj=quick)
        if not isinstance(answer, Answer):
            return int(answer or 0)
        if quick and answer.sizes is not None:
            quick.keep(answer.document if as_json else answer.text(), answer.sizes)
        return _shown(answer, options, out)
    except BrokenPipeError:
        # the reader of a pipe has ended; Python would print a traceback when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1
    except OutputError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every failure is reported
        status = 2 if isinstance(error, SettingsError | click.UsageError) else 1
        if isinstance(error, click.UsageError) and not as_json:
            error.show()
            return status
        name = next((one for one in options if not one.startswith("-")), "")
        nothing = getattr(cli.commands.get(name), "nothing", None) or {}
        trace = "".join(traceback.format_exception(error))
        failed = Answer(nothing, error=_message(error), trace=trace, status=status)
    try:
        return _shown(failed, options, out)
    except OutputError as error:
        click.echo(f"Error: {failed.error}\nError: {error}", err=True)
        return status


def _shown(answer: Answer, options: list[str], out: TextIO) -> int:
    """Print an answer whole; return the exit status."""
    if answer.trace and "--debug" in options:
        click.echo(answer.trace, err=True)
    try:
        status = show(answer, out, as_json="--json" in options)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # what is left in its buffer would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise OutputError(f"stdout cannot be written: {error.strerror}") from None
    return status


def _message(error: BaseException) -> str:
    match error:
        case click.UsageError():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt():
            return "interrupted"
        case PipelineError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error} (--debug shows where)"
