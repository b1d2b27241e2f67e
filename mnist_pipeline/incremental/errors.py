"""Errors with one message for a person: what is wrong, where, and what to do."""


class PipelineError(Exception):
    """Base of every error that is meant for the user rather than for the developer."""


class SettingsError(PipelineError):
    """A setting, from the environment or a file, or a params file is not allowed."""


class FormatError(PipelineError):
    """A file is invalid: not in its format, or not what this pipeline expects in it."""


class StoreError(PipelineError):
    """An artifact is missing from the store, damaged, or could not be written."""


class HistoryError(PipelineError):
    """Dagster's history of runs and materializations cannot be read or written."""
