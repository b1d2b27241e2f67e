"""The settings file: which names it and the environment may have, and how it is created.

Dagster puts a `.env` over the environment, so settings are in a file of another name.
"""

import difflib
import io
import os
import re
from collections.abc import Collection
from pathlib import Path

import click
from dotenv.parser import Binding, parse_stream

from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import SettingsError

NAME = "settings.env"
DOTENV = ".env"
PREFIX = "MNIST_"

_OF_DEPLOYMENT = {
    "MNIST_ARCHIVE",  # benchmarks/
    "MNIST_BROKER_URL",
    "MNIST_CODE_HOST",
    "MNIST_CODE_PORT",
    "MNIST_POSTGRES_URL",
    "MNIST_PROJECT",  # names the folder of the settings file
    "MNIST_WORKER_SLOTS",
}
"""Variables that are not read in `settings`."""


def check_names(folder: Path, settings: Collection[str]) -> None:
    """Return if every `MNIST_` variable, of the environment and the project's file, is known.

    Raises SettingsError where a name is not known, a line is not `NAME=value`, a file is not text,
    or a `.env` names such variables.
    """
    file, dotenv = folder / NAME, folder / DOTENV
    if ours := [name for name in _names(_lines(dotenv)) if name.startswith(PREFIX)]:
        raise SettingsError(
            f"{dotenv} names {', '.join(ours)}, which `dagster dev` would put over the "
            f"environment: move these lines to {file} (in a clone, `make install` does if that "
            "file is missing)"
        )
    if file.is_dir() or (file.is_symlink() and not file.exists()):
        raise SettingsError(f"{file} is {'a folder' if file.is_dir() else 'a link to nothing'}")
    lines = _lines(file)
    for one in lines:
        if one.error or (one.key and one.value is None):
            # not the line itself: there may be a password in it
            raise SettingsError(
                f"line {one.original.line} of {file} is not NAME=value, or its quotes do not end"
            )
    known = sorted({*settings, *_OF_DEPLOYMENT})
    for where, names in (("environment", sorted(os.environ)), (file, _names(lines))):
        for name in names:
            # Kubernetes sets MNIST_PIPELINE_... where a service is called mnist-pipeline
            if name in known or name.startswith("MNIST_PIPELINE_"):
                continue
            near = [one for one in known if _letters(one) == _letters(name)]
            if not (near or name.startswith(PREFIX)):
                continue
            near = near or difflib.get_close_matches(name, known)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise SettingsError(
                f"{name} ({where}) is not a known setting. {hint}Known are {', '.join(known)}."
            )


def create(folder: Path) -> None:
    """Write the settings file if it is missing: the settings of a `.env`, or else the example.

    The lines of `MNIST_` variables move. `DAGSTER_HOME`, which Dagster reads there too, is copied;
    everything else stays.
    """
    new, old = folder / NAME, folder / DOTENV
    if new.exists():
        return
    lines = [(one.key or "", one.original.string) for one in _lines(old)]
    names = {name for name, _ in lines if name}
    copied = [line for name, line in lines if name.startswith(PREFIX) or name == "DAGSTER_HOME"]
    if not any(name.startswith(PREFIX) for name in names):
        example = (folder / f"{NAME}.example").read_text(encoding="utf-8")
        files.replace(new, (example + "".join(copied)).encode())
        return
    if all(name.startswith(PREFIX) for name in names):
        old.rename(new)
    else:
        rest = [line for name, line in lines if not name.startswith(PREFIX)]
        # there may be passwords in it
        files.replace(new, "".join(copied).encode(), like=old)
        files.replace(old, "".join(rest).encode())
    click.echo(f"Settings are in {new} now: the {PREFIX} variables of {old} were moved there.")


def _letters(name: str) -> str:
    """Return a name as it is whatever its case and punctuation."""
    return re.sub("[^A-Z]", "", name.upper())


def _names(lines: Collection[Binding]) -> list[str]:
    return sorted({one.key for one in lines if one.key})


def _lines(file: Path) -> list[Binding]:
    return list(parse_stream(io.StringIO(_text(file))))


def _text(file: Path) -> str:
    """Return the text of a file; an empty text if it is missing or a folder."""
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise SettingsError(f"{file} is not a regular file")
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text: {error}") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None


if __name__ == "__main__":
    create(Path(__file__).resolve().parents[2])
