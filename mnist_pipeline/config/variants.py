"""Variants of `[model]` in a params file: how tables and a sweep expand, and which one is chosen.

It handles TOML and names; which keys and values are allowed is in `params`.
"""

import itertools
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

MOST = 1000
"""Variants at most."""

CHOSEN = "variant"
"""Key of `[model]`: the variant whose params the model has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=:-]{0,119}")


def expanded(content: Mapping[str, Any], known: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the keys of each variant, by name: those of `[variants]`, then those of `[sweep]`.

    A variant starts from `[model]`, or, if it names a preset, from that preset alone. A sweep leads
    to each combination of its values, named after them: `alpha=1e-05:whitening=0.01`, keys in the
    order of the alphabet.

    Parameters
    ----------
    content : mapping
        Of the params file.
    known : collection of str
        Keys that a sweep may have.

    Raises
    ------
    ValueError
        A value is not a table, a name is not allowed or given twice, or there are more than `MOST`.
    """
    tables, sweep = (_table(content, name) for name in ("variants", "sweep"))
    for name in tables:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(
                f"variants.{name!r} is not a name for a variant: letters, digits and . _ = : - "
                "after a letter or digit, 120 at most"
            )
    for key, values in sweep.items():
        if key not in known:
            raise ValueError(f"sweep.{key} is not a known key of [model]")
        if not isinstance(values, list) or not values:
            raise ValueError(f"sweep.{key} = {values!r}: a list of values is needed")
    combinations = math.prod(len(values) for values in sweep.values()) if sweep else 0
    if len(tables) + combinations > MOST:
        raise ValueError(
            f"[variants] and [sweep] lead to {len(tables) + combinations:,} variants: {MOST:,} are "
            "the most"
        )
    base = {key: value for key, value in _table(content, "model").items() if key != CHOSEN}
    found: dict[str, dict[str, Any]] = {}
    swept = [dict(zip(sorted(sweep), values, strict=True)) for values in _grid(sweep)]
    for name, own in [*tables.items(), *((_name(one), one) for one in swept)]:
        if not isinstance(own, dict):
            raise ValueError(f"variants.{name} = {own!r}: a table [variants.{name}] is needed")
        if name in found:
            raise ValueError(f"there are two variants {name}: [sweep] leads to it too")
        found[name] = own if "preset" in own else base | own
    return found


def chosen(content: Mapping[str, Any], names: Collection[str]) -> str | None:
    """Return the variant that `[model]` names, if it names one.

    Raises
    ------
    ValueError
        There is no such variant.
    """
    name = _table(content, "model").get(CHOSEN)
    if name is None or (isinstance(name, str) and name in names):
        return name
    raise ValueError(
        f"model.{CHOSEN} = {name!r}: there is no such variant (any more) in [variants] or [sweep]. "
        f"{known(names)} Restore it, name another, or take the line out"
    )


def known(names: Collection[str]) -> str:
    """Return a sentence that lists the variants."""
    some = ", ".join(itertools.islice(names, 20))
    return f"There are {some}{' ...' if len(names) > 20 else ''}." if names else "There are none."


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{name} = {found!r}: a table [{name}] is needed")
    return found


def _grid(sweep: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    return list(itertools.product(*(sweep[key] for key in sorted(sweep)))) if sweep else []


def _name(values: Mapping[str, Any]) -> str:
    name = ":".join(f"{key}={_shown(value)}" for key, value in values.items())
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"[sweep] leads to {name!r}, which is not a name: give it under [variants]"
        )
    return name


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
