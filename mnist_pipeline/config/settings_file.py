"""The settings file, and which names it and the environment may have.

Dagster puts a `.env` over the environment, so settings are in a file of another name.
"""

import difflib
import os
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values

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
    "MNIST_WORKER_SLOTS",
}
"""Variables that are not read in `settings`."""


def check_names(folder: Path, settings: Collection[str]) -> None:
    """Return if every `MNIST_` variable, of the environment and the project's file, is known.

    Raises SettingsError where a name is not known, a file is not text, or a `.env` names such
    variables.
    """
    file, dotenv = folder / NAME, folder / DOTENV
    if ours := [name for name in _names(dotenv) if name.startswith(PREFIX)]:
        raise SettingsError(
            f"{dotenv} names {', '.join(ours)}, which `dagster dev` would put over the "
            f"environment: move these lines to {file}"
        )
    known = sorted({*settings, *_OF_DEPLOYMENT})
    for where, names in (("environment", sorted(os.environ)), (file, _names(file))):
        for name in names:
            # Kubernetes sets MNIST_PIPELINE_... where a service is called mnist-pipeline
            if name in known or not name.startswith(PREFIX) or name.startswith("MNIST_PIPELINE_"):
                continue
            near = difflib.get_close_matches(name, known)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise SettingsError(
                f"{name} ({where}) is not a known setting. {hint}Known are {', '.join(known)}."
            )


def _names(file: Path) -> list[str]:
    """Return the names that a file sets, none if it is missing."""
    try:
        return sorted(dotenv_values(file, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read as UTF-8 text: {error}") from None
