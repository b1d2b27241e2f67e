"""Incremental materialization for Dagster: what did not change is not computed again.

Declare assets with `asset`, put them into a `Pipeline`, give its `definitions` to Dagster and open
a `session` for the command line, notebooks and tests. The terms are those of A. Mokhov et al.,
"Build systems à la carte", ICFP 2018: content-addressed results, early cutoff, constructive traces.

The package imports nothing else of this project: copy the folder into yours. Names are imported
when they are used, so that `digest`, `check` and `errors` can be used without Dagster.
"""

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "codecs": "codecs",
    "AssetStatus": "status",
    "CheckResult": "check",
    "Codec": "codecs",
    "Pipeline": "pipeline",
    "PipelineError": "errors",
    "Result": "steps",
    "RunResult": "session",
    "Session": "session",
    "asset": "steps",
    "content_digest": "digest",
    "open_store": "store",
}

__all__ = [*_MODULES]

if TYPE_CHECKING:  # a type checker shall find names that do not exist
    from . import codecs as codecs
    from .check import CheckResult as CheckResult
    from .codecs import Codec as Codec
    from .digest import content_digest as content_digest
    from .errors import PipelineError as PipelineError
    from .pipeline import Pipeline as Pipeline
    from .session import RunResult as RunResult
    from .session import Session as Session
    from .status import AssetStatus as AssetStatus
    from .steps import Result as Result
    from .steps import asset as asset
    from .store import open_store as open_store
else:

    def __getattr__(name: str) -> Any:
        """Import a public name's module when the name is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        return module if name == "codecs" else getattr(module, name)
