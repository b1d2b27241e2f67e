"""The pipeline opened for a command, for the environment's settings."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from mnist_pipeline.incremental.unchanged import QuickAnswers

if TYPE_CHECKING:
    from mnist_pipeline.incremental.session import Session


@contextlib.contextmanager
def open_session() -> Iterator["Session"]:
    """Open the pipeline; progress goes to stderr. Raises what `build` and `session` raise."""
    from mnist_pipeline import definitions
    from mnist_pipeline.assets import own
    from mnist_pipeline.config import settings_file
    from mnist_pipeline.config.settings import DEFAULTS, PROJECT, Settings

    settings = Settings.load()
    home = settings.dagster_home
    quick = click.get_current_context().find_object(QuickAnswers)
    # a project's own assets and checks may depend on anything
    if quick and not (own.ASSETS or own.CHECKS):
        names = settings_file.NAME, settings_file.DOTENV, "dagster.yaml"
        files = [settings.params_file, home / "dagster.yaml"]
        files += [folder / name for name in names for folder in (PROJECT, DEFAULTS)]
        quick.begin(map(str, files), str(home))
    with definitions.build(settings).session(partial(click.echo, err=True)) as session:
        yield session
