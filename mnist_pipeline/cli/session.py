"""The pipeline opened for a command, for the environment's settings."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mnist_pipeline.incremental.session import Session


@contextlib.contextmanager
def open_session() -> Iterator["Session"]:
    """Open the pipeline; progress goes to stderr. Raises what `build` and `session` raise."""
    from mnist_pipeline import definitions
    from mnist_pipeline.config.settings import Settings

    with definitions.build(Settings.load()).session(partial(click.echo, err=True)) as session:
        yield session
