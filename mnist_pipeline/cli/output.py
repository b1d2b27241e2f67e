"""What a command prints: text for people or one JSON document, and what failed."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import click

_LEAST_WIDTH = 8
"""Characters of a column that is wrapped."""


@dataclass(frozen=True)
class Answer:
    """What a command found or did: for programs and for people.

    `error` is what failed, `trace` its traceback; the exit status is `status`, or 1 with an error.
    `sizes` has the artifacts by path, if everything was found up to date: then the answer is the
    same until something changes.
    """

    document: Mapping[str, object] | Sequence[object]
    text: Callable[[], str] = str
    error: str | None = None
    trace: str | None = None
    status: int = 0
    sizes: Mapping[str, int] | None = None


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


def flag(name: str, text: str) -> click.Option:
    """Return an option that `main` looks for itself: it counts even if another one is wrong."""
    return click.Option([name], is_flag=True, expose_value=False, help=text)


def debug_flag() -> click.Option:
    """Return the option `--debug`, which stands before or after the command."""
    return flag("--debug", "Print the traceback of what failed on stderr.")


def show(answer: Answer, out: TextIO, *, as_json: bool) -> int:
    """Print an answer; return the exit status."""
    if as_json:
        document = answer.document
        if answer.error and isinstance(document, Mapping):
            document = {**document, "error": answer.error}
        click.echo(json.dumps(document), file=out)
    else:
        if text := answer.text():
            click.echo(text, file=out)
        if answer.error:
            click.echo(f"Error: {answer.error}", err=True)
    return answer.status or int(answer.error is not None)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts; the widest columns are wrapped where a terminal is too narrow."""
    import tabulate

    # tabulate pads headers by two
    padded = [f"{header}  " for header in headers]
    widths = [max(map(len, column)) for column in zip(padded, *rows, strict=True)]
    columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    room = (columns or sys.maxsize) - 2 * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _LEAST_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return tabulate.tabulate(
        rows, headers, tablefmt="plain", disable_numparse=True, maxcolwidths=widths
    )


def short(version: str | None) -> str:
    """Return the beginning of a version: enough to distinguish two."""
    return (version or "")[:12]


def utc(timestamp: float) -> str:
    """Return a time (seconds since 1970) in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
