"""The tracked home: the folder in which the Dagster instance keeps its history."""

import os
from pathlib import Path
from typing import Any

import yaml

from mnist_pipeline.errors import SettingsError
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
    """
    home = settings.dagster_home
    file = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((PROJECT / "dagster.yaml").read_text("utf-8"))
        text = _MADE + yaml.safe_dump(_moved(config, home), sort_keys=False)
        there = file.read_text("utf-8") if file.exists() else _MADE
        if there.startswith(_MADE) and there != text:
            beside = file.with_suffix(f".{os.getpid()}.tmp")
            beside.write_text(text, "utf-8")
            beside.replace(file)
    except OSError as error:
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
