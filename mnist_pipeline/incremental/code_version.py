"""Code versions: derived from what a step is made with, its source, its params, its libraries.

Nobody types a version: a step whose code, guards, params or libraries changed is stale in the UI,
and the recipe that each materialization carries says what it was.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
from pydantic import BaseModel

from mnist_pipeline.incremental import _dagster
from mnist_pipeline.incremental._dagster import Graph
from mnist_pipeline.incremental.digest import content_digest
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.incremental.sources import Sources

_ABSENT = object()

_PLACE = "MNIST_DATA_DIR"

MADE_WITH = "made_with"
"""Metadata of an asset and of its materializations: the recipe."""


@dataclass(frozen=True)
class Recipe:
    """What a step is made with.

    Attributes
    ----------
    sources : dict
        Digest of the normalised source of each file that the step reaches.
    libraries : dict
        Major and minor version of each library that shapes the result.
    read : dict
        By resource key, the params (a dict) and settings (a value) that the step reads.
    """

    sources: Mapping[str, str]
    libraries: Mapping[str, str]
    read: Mapping[str, Any]

    @property
    def code_version(self) -> str:
        """Digest of it all, 32 hex digits."""
        return content_digest(self.sources, self.libraries, self.read)

    def changes_since(self, before: Any) -> list[str]:
        """Say what is different from the recipe in a materialization's metadata, in words."""
        try:
            then = Recipe(**before)
            return [
                *(
                    f"code {_what(old, new)} {file}"
                    for file, old, new in _differences(then.sources, self.sources)
                ),
                *(
                    f"library changed: {name} {_shown(old)} -> {_shown(new)}"
                    for name, old, new in _differences(then.libraries, self.libraries)
                ),
                *(
                    f"{_kind(name)} changed: {name} {_shown(old)} -> {_shown(new)}"
                    for name, old, new in _differences(_flat(then.read), _flat(self.read))
                ),
            ]
        except (AttributeError, TypeError):
            return []  # of another version of this project


def recipes(
    assets: list[dg.AssetsDefinition], inputs: Mapping[str, object]
) -> dict[dg.AssetKey, Recipe]:
    """Return the recipe of each asset's step, from the source as it is on disk now.

    Parameters
    ----------
    assets : list of AssetsDefinition
        Of one step, and one asset, each.
    inputs : mapping
        By resource key, the params and settings that results depend on. Those that a step requires
        count for it.
    """
    source = Sources()
    return {
        asset.key: Recipe(
            *source.reached(asset.op.compute_fn.decorated_fn.__module__),  # type: ignore[union-attr]
            {
                key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
                for key, value in inputs.items()
                if key in asset.required_resource_keys
            },
        )
        for asset in assets
    }


def versioned(asset: dg.AssetsDefinition, recipe: Recipe) -> dg.AssetsDefinition:
    """Give an asset the recipe of its step, and the code version that follows from it."""
    return asset.map_asset_specs(
        lambda spec: spec.replace_attributes(code_version=recipe.code_version).merge_attributes(
            metadata={MADE_WITH: asdict(recipe)}
        )
    )


def stop_if_changed(graph: Graph, data_dir: str) -> None:
    """In a run worker: stop before the first step if code versions or store are not the run's.

    A code server keeps the definitions that it loaded, while its run workers import afresh: what
    they made would be recorded under versions that nobody asked for. And what a worker publishes
    elsewhere nobody else finds.

    Raises
    ------
    SettingsError
        Names the assets whose definitions changed, or the store.
    """
    keys = graph.get_all_asset_keys()
    now = {_PLACE: data_dir} | {key.to_user_string(): graph.get(key).code_version for key in keys}
    asked = _dagster.carried(json.dumps(now, sort_keys=True))
    if asked is not None and (before := json.loads(asked)) != now:
        if before.get(_PLACE) != data_dir:
            raise SettingsError(
                f"{_PLACE} is {data_dir} where the run is to be executed, and {before.get(_PLACE)} "
                "where it was asked for: let both be the same"
            )
        changed = sorted(key for key in now | before if now.get(key) != before.get(key))
        raise SettingsError(
            f"the definitions of {', '.join(changed)} changed since they were loaded: reload "
            "them, then launch the run again"
        )


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old != new:
            yield name, old, new


def _flat(read: Mapping[str, Any]) -> dict[str, Any]:
    """Name each value as people know it: `model.alpha`, `MNIST_SOURCE`."""
    flat: dict[str, Any] = {}
    for resource, value in read.items():
        if isinstance(value, Mapping):
            table = resource.removesuffix("_params")
            flat |= {f"{table}.{key}": item for key, item in value.items()}
        else:
            flat[f"MNIST_{resource.upper()}"] = value
    return flat


def _kind(name: str) -> str:
    return "setting" if name.isupper() else "params"


def _what(old: object, new: object) -> str:
    if old is _ABSENT:
        return "now used:"
    return "no longer used:" if new is _ABSENT else "changed in"


def _shown(value: object) -> str:
    return "(absent)" if value is _ABSENT else str(value)
