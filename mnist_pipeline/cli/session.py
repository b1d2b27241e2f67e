"""The pipeline opened for a command, for the environment's settings."""

import contextlib
from collections.abc import Iterator
from functools import partial

import click

from mnist_pipeline import definitions
from mnist_pipeline.config.settings import Settings
from mnist_pipeline.incremental.session import Session


@contextlib.contextmanager
def open_session() -> Iterator[Session]:
    """Open the pipeline; progress goes to stderr.

    Raises
    ------
    SettingsError
        A setting or the params file is not allowed.
    HistoryError
        The disk with Dagster's history is full, its database damaged, or its server gone.
    """
    with definitions.build(Settings.load()).session(partial(click.echo, err=True)) as session:
        yield session
