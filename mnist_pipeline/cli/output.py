"""What a command prints: text for people or one JSON document, and what failed.

Each command line has one `Output`, in click's context: the options `--json` and `--debug` set it.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

SHOWN = 12
"""Characters of a version that are shown: enough to distinguish two."""


@dataclass(frozen=True)
class Answer:
    """What a command found or did.

    Attributes
    ----------
    document : mapping or list
        For programs.
    text : callable
        Returns the text for people.
    error : str or None
        What failed.
    trace : str or None
        The traceback of that, for `--debug`.
    status : int
        Exit status, if nothing failed.
    failed : int
        Exit status, if something failed.
    """

    document: Mapping[str, object] | Sequence[object]
    text: Callable[[], str] = str
    error: str | None = None
    trace: str | None = None
    status: int = 0
    failed: int = 1


@dataclass
class Output:
    """How a command line prints its answer.

    Attributes
    ----------
    nothing : mapping or None
        With `--json`, the command's document if it fails before it has an answer; else None.
    debug : bool
        Whether tracebacks are printed.
    """

    nothing: Mapping[str, object] | None = None
    debug: bool = False

    def show(self, answer: Answer) -> int:
        """Print an answer; return the exit status."""
        if self.debug and answer.trace:
            click.echo(answer.trace, err=True)
        if self.nothing is not None:
            document = answer.document
            if answer.error and isinstance(document, Mapping):
                document = {**document, "error": answer.error}
            click.echo(json.dumps(document))
        else:
            if text := answer.text():
                click.echo(text)
            if answer.error:
                click.echo(f"Error: {answer.error}", err=True)
        return answer.failed if answer.error else answer.status


class Command(click.Command):
    """A command with `--debug` and, if it has a document, `--json`; it returns its answer.

    Parameters
    ----------
    nothing : mapping, optional
        The document of a failure, to which the error is added.
    """

    def __init__(
        self, *args: Any, nothing: Mapping[str, object] | None = None, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.nothing = nothing
        if nothing is not None:
            self.params.append(
                click.Option(
                    ["--json"],
                    is_flag=True,
                    expose_value=False,
                    callback=_choose_document,
                    help="Print one JSON document on stdout.",
                )
            )
        self.params.append(debug_option())

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments, first as far as they can be: errors need `--json` too."""
        tolerant = {"resilient_parsing": True, "ignore_unknown_options": True}
        super().make_context(info_name, list(args), parent, **{**extra, **tolerant})
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> int:
        """Run the command and print its answer; return the exit status."""
        output = ctx.find_object(Output) or Output()
        # what a library prints goes to stderr
        document_only = output.nothing is not None
        with contextlib.redirect_stdout(sys.stderr) if document_only else contextlib.nullcontext():
            answer: Answer | None = super().invoke(ctx)
        return output.show(answer) if answer else 0


class Group(click.Group):
    """A group of these commands, with `--debug` before the command too."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; with `--json`, a document reports that there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            Command(None, nothing={}).make_context(None, args[1:], ctx, resilient_parsing=True)
            raise


def debug_option() -> click.Option:
    """Return the option `--debug`."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_debug,
        help="Print the traceback of what failed on stderr.",
    )


def _choose_document(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, Command):
        ctx.ensure_object(Output).nothing = ctx.command.nothing


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Output).debug = True


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    import tabulate

    return tabulate.tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


def utc(timestamp: float) -> str:
    """Return a time (seconds since 1970) in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
