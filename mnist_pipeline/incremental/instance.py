"""The tracked home: the folder in which the Dagster instance keeps its history."""

import errno
import os
from pathlib import Path
from typing import Any

import yaml

from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import HistoryError, SettingsError
from mnist_pipeline.settings import PROJECT, Settings

_IN_CLONE = "data/dagster_home"
_MADE = "# Made by mnist-pipeline from the project's dagster.yaml. Without this line it is yours.\n"


def prepare(settings: Settings) -> Path:
    """Make the home, write its `dagster.yaml` and point `DAGSTER_HOME` of this process at it.

    A `dagster.yaml` that somebody else wrote there is left as it is.

    Raises
    ------
    SettingsError
        The folder cannot be made or written.
    HistoryError
        The disk is full.
    """
    home = settings.dagster_home
    file = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((PROJECT / "dagster.yaml").read_text("utf-8"))
        text = _MADE + yaml.safe_dump(_moved(config, home), sort_keys=False)
        there = file.read_text("utf-8") if file.exists() else _MADE
        if there.startswith(_MADE) and there != text:
            files.replace(file, text.encode())
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise HistoryError(
                f"no room for Dagster's history in {home}: make room there"
            ) from None
        raise SettingsError(
            f"DAGSTER_HOME: cannot use {home}: {error.strerror} ({error.filename})"
        ) from None
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _moved(config: Any, home: Path) -> Any:
    if isinstance(config, dict):
        return {key: _moved(value, home) for key, value in config.items()}
    if isinstance(config, str) and config.startswith(_IN_CLONE):
        return str(home) + config.removeprefix(_IN_CLONE)
    return config
