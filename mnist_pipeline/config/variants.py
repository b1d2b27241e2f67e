"""Variants of `[model]` in a params file: how tables and a sweep expand, and which one is chosen.

Which keys and values a variant may have is in `digits.params`.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

MOST = 1000
"""Variants at most."""

CHOSEN = "variant"
"""Key of `[model]`: the variant whose params the model has."""

_TABLES = ("model", "variants", "sweep")
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._=:-]{0,119}")


def asset_name(name: str) -> str:
    """Return the name of a variant in that of an asset: Dagster allows no punctuation there."""
    return re.sub(r"\W", "_", name)


def expanded(
    content: Mapping[str, Any], known_keys: Collection[str]
) -> tuple[dict[str, Any], str | None]:
    """Return the content of a params file with all its variants in `variants`, and no `sweep`.

    Also returns the variant that `[model]` names, or None.

    A variant starts from `[model]`, or, if it names a preset, from that preset alone. A sweep leads
    to each combination of its values, named after them: `alpha=1e-05:whitening=0.01`, keys in the
    order of the alphabet; these are among `known_keys`.

    Raises ValueError where a value is not a table, a key or name is not allowed or given twice,
    there are more than `MOST`, or there is no variant that `[model]` names.
    """
    content = dict(content)
    model, tables, sweep = (_table(content.pop(name, {}), name) for name in _TABLES)
    for key, values in sweep.items():
        if key not in known_keys:
            raise ValueError(f"sweep.{key} is not a known key of [model]")
        if not isinstance(values, list) or not values:
            raise ValueError(f"sweep.{key} = {values!r}: a list of values is needed")
    count = len(tables) + (math.prod(len(values) for values in sweep.values()) if sweep else 0)
    if count > MOST:
        raise ValueError(
            f"[variants] and [sweep] lead to {count:,} variants: {MOST:,} are the most"
        )
    chosen = model.pop(CHOSEN, None)
    found: dict[str, Any] = {}
    asset_names: dict[str, str] = {}
    for name, own in [*tables.items(), *_combinations(sweep)]:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"variants.{name!r} is not a name for a variant: letters, digits and . _ = : - "
                "after a letter or digit, 120 at most. Give what [sweep] leads to under [variants]"
            )
        if name in found:
            raise ValueError(f"there are two variants {name}: [sweep] leads to it too")
        if (other := asset_names.setdefault(asset_name(name), name)) != name:
            raise ValueError(f"the variants {other} and {name} differ in punctuation only")
        table = _table(own, f"variants.{name}")
        found[name] = table if "preset" in table else model | table
    if chosen is not None and (not isinstance(chosen, str) or chosen not in found):
        raise ValueError(
            f"model.{CHOSEN} = {chosen!r}: there is no such variant (any more) in [variants] or "
            f"[sweep]. {known(found)} Restore it, name another, or take the line out"
        )
    return content | {"model": model, "variants": found}, chosen


def known(names: Collection[str]) -> str:
    """Return a sentence that lists the variants."""
    some = ", ".join(itertools.islice(names, 20))
    return f"There are {some}{' ...' if len(names) > 20 else ''}." if names else "There are none."


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} = {value!r}: a table [{name}] is needed")
    return dict(value)


def _combinations(sweep: Mapping[str, list[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each combination of the values, by its name."""
    keys = sorted(sweep)
    for values in itertools.product(*(sweep[key] for key in keys)) if keys else ():
        table = dict(zip(keys, values, strict=True))
        yield ":".join(f"{key}={_shown(value)}" for key, value in table.items()), table


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
