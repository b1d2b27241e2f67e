"""What a command prints: text for people or one JSON document, and what failed.

Click's context holds one `Output` a command line, which `--json` and `--debug` set.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click


@dataclass(frozen=True)
class Answer:
    """What a command found or did: for programs and for people.

    `error` is what failed, `trace` its traceback; the exit status is `status`, or 1 with an error.
    """

    document: Mapping[str, object] | Sequence[object]
    text: Callable[[], str] = str
    error: str | None = None
    trace: str | None = None
    status: int = 0


@dataclass
class Output:
    """How a command line prints its answer; `nothing` is its document if it fails without one."""

    json: bool = False
    debug: bool = False
    nothing: Mapping[str, object] = field(default_factory=dict)

    def show(self, answer: Answer) -> int:
        """Print an answer; return the exit status."""
        if self.debug and answer.trace:
            click.echo(answer.trace, err=True)
        if self.json:
            document = answer.document
            if answer.error and isinstance(document, Mapping):
                document = {**document, "error": answer.error}
            click.echo(json.dumps(document))
        else:
            if text := answer.text():
                click.echo(text)
            if answer.error:
                click.echo(f"Error: {answer.error}", err=True)
        return answer.status or int(answer.error is not None)


class Command(click.Command):
    """A command that returns an `Answer`, or None; with `--debug` and, given `nothing`, `--json`.

    `nothing` is the document of a failure, to which the error is added.
    """

    def __init__(
        self, *args: Any, nothing: Mapping[str, object] | None = None, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.nothing = nothing
        if nothing is not None:
            self.params.append(flag("--json", "Print one JSON document on stdout."))
        self.params.append(debug_flag())

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments, first as far as possible: `--json` counts if others are wrong."""
        tolerant = {"resilient_parsing": True, "ignore_unknown_options": True}
        context = super().make_context(info_name, list(args), parent, **(extra | tolerant))
        context.obj.nothing = self.nothing or {}
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> int:
        """Run the command and print its answer; return the exit status."""
        # with --json, what a library prints goes to stderr
        stdout = sys.stderr if ctx.obj.json else sys.stdout
        with contextlib.redirect_stdout(stdout):
            answer: Answer | None = super().invoke(ctx)
        return ctx.obj.show(answer) if answer else 0


class Group(click.Group):
    """A group of these commands."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one with `--json` gets a document too."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            with contextlib.suppress(click.UsageError):
                Command(None, nothing={}).make_context(None, args[1:], ctx)
            raise


def flag(name: str, text: str) -> click.Option:
    """Return an option that sets the attribute of this name in the `Output`."""

    def set_it(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(ctx.obj, parameter.name or "", True)

    return click.Option([name], is_flag=True, expose_value=False, callback=set_it, help=text)


def debug_flag() -> click.Option:
    """Return the option `--debug`, which stands before or after the command."""
    return flag("--debug", "Print the traceback of what failed on stderr.")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    import tabulate

    return tabulate.tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


def short(version: str | None) -> str:
    """Return the beginning of a version: enough to distinguish two."""
    return (version or "")[:12]


def utc(timestamp: float) -> str:
    """Return a time (seconds since 1970) in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
