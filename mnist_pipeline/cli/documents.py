"""The one JSON document that a command prints on stdout with `--json`, also when it failed."""

import json
import sys
from collections.abc import Sequence

OPTION = "--json"

_NOTHING: dict[str, dict[str, object]] = {
    "run": {"run_id": None, "status": "failure", "materialized": [], "reused": [], "seconds": 0.0},
    "status": {"assets": []},
    "refresh": {
        "status": "failure",
        "materialized": [],
        "reused": [],
        "fresh": [],
        "seconds": 0.0,
    },
    "history": {"materializations": []},
    "champion": {"model_version": None, "blocked": {}, "deleted_with_run": None, "history": []},
    "compare": {"fitted": [], "entries": [], "left_out": {}, "seconds": 0.0},
    "promote": {"status": "failure", "variant": None, "file": None, "changed": False},
    "gc": {"dry_run": True, "removed": []},
}


def write(error: str | None, **content: object) -> None:
    """Print the document, with the error where there is one."""
    write_any(content | ({"error": error} if error else {}))


def write_any(document: object) -> None:
    """Print a document of another shape."""
    print(json.dumps(document), file=sys.__stdout__, flush=True)


def of_nothing(arguments: Sequence[str]) -> dict[str, object]:
    """Return what the command in these arguments says when it did not come to do anything."""
    return _NOTHING.get(next((word for word in arguments if word in _NOTHING), ""), {})


def word(success: bool) -> str:
    """Return how a document names the outcome."""
    return "success" if success else "failure"
