"""Your own assets and checks. The project leaves this file empty; docs/extending.md has examples.

Every entry point knows what is listed here: the command line, the UI, the schedule and the sensor.
"""

import dagster as dg

from mnist_pipeline.incremental.steps import Asset

ASSETS: list[Asset] = []
"""Assets declared with `mnist_pipeline.incremental.asset`."""

CHECKS: list[dg.AssetChecksDefinition] = []
"""Dagster's own asset checks, of any asset: a blocking one stops what is downstream."""
