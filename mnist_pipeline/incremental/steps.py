"""Assets: a step that computes a value, declared with its inputs, its codec and its checks."""

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg

from .check import CheckResult
from .codecs import Codec

Check = Callable[..., CheckResult]
PointsAt = Callable[[dg.DagsterInstance], Mapping[dg.AssetKey, Collection[str]]]
Decode = Callable[[bytes, str], Any]

DETERMINISTIC = "deterministic"
"""Name of the warning check that a result computed again has the same content."""


@dataclass(frozen=True)
class Result:
    """What a step returns."""

    value: Any
    """What is published, unless a blocking check failed."""
    checks: Sequence[CheckResult] = ()
    """Results of the asset's checks."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What Dagster shows of the materialization."""
    enforce: bool = True
    """False: checks that failed are recorded as warnings and stop nothing."""


@dataclass(frozen=True)
class Asset:
    """An asset and its step, as the decorator `asset` declares them.

    `inputs` has, by parameter of the step, the asset whose value it is, `upstream` those of them
    that are not direct; `deps` has all direct inputs; `resources` are the parameters that are
    resources, `values` those whose value is given here. The other fields are the decorator's.
    """

    key: dg.AssetKey
    step: Callable[..., Any]
    codec: Codec[Any]
    inputs: Mapping[str, dg.AssetKey]
    upstream: frozenset[dg.AssetKey]
    decode: Mapping[str, Decode]
    deps: tuple[dg.AssetKey, ...]
    resources: tuple[str, ...]
    blocking: Sequence[Check]
    warning: Sequence[Check]
    reuse: bool
    reads: Callable[[dg.AssetExecutionContext], Mapping[str, object]] | None
    points_at: PointsAt | None
    options: Mapping[str, Any]
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The key, as people write it."""
        return self.key.to_user_string()

    @property
    def file(self) -> Path:
        """Where the step is defined."""
        return Path(inspect.getsourcefile(self.step) or "")

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """The checks, as Dagster defines them."""
        specs = [
            dg.AssetCheckSpec(
                check.__name__,
                asset=self.key,
                blocking=check in self.blocking,
                description=inspect.getdoc(check),
            )
            for check in [*self.blocking, *self.warning]
        ]
        if self.reuse:
            text = "Computed again from the same inputs, code and params, the content is the same."
            specs.append(dg.AssetCheckSpec(DETERMINISTIC, asset=self.key, description=text))
        return specs

    def with_values(self, key: dg.AssetKey, **values: object) -> "Asset":
        """Return the same step as another asset, with values for some of its resources.

        They count for its code version, as params do.
        """
        resources = tuple(name for name in self.resources if name not in values)
        return replace(self, key=key, resources=resources, values={**self.values, **values})

    def _source(self) -> dg.CodeReferencesMetadataValue:
        """Return where the UI finds the step's code."""
        line = inspect.getsourcelines(self.step)[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            reference = dg.LocalFileCodeReference(
                file_path=str(self.file), line_number=line, label=self.name
            )
            return dg.CodeReferencesMetadataValue(code_references=[reference])

    def define(
        self, compute: Callable[..., Any], code_version: str, metadata: Mapping[str, Any]
    ) -> dg.AssetsDefinition:
        """Return the asset for Dagster, with `compute` (context -> events) as its body."""
        options = dict(self.options)
        compute.__name__ = self.step.__name__
        decorate: Any = dg.asset(
            key=self.key,
            deps=self.deps,
            code_version=code_version,
            check_specs=self.check_specs,
            required_resource_keys=set(self.resources),
            description=options.pop("description", None) or inspect.getdoc(self.step),
            metadata={
                **options.pop("metadata", {}),
                **metadata,
                "dagster/code_references": self._source(),
            },
            # values pass through the store, not from step to step
            dagster_type=dg.Nothing,
            # params count for the code version: nothing is to be set for one run
            config_schema={},
            **options,
        )
        defined: dg.AssetsDefinition = decorate(compute)
        return defined


def asset(
    codec: Codec[Any],
    *,
    key: dg.AssetKey | Sequence[str] | str | None = None,
    inputs: Mapping[str, dg.AssetKey] | None = None,
    upstream: Sequence[str] = (),
    decode: Mapping[str, Decode] = MappingProxyType({}),
    deps: Sequence[dg.AssetKey] = (),
    blocking: Sequence[Check] = (),
    warning: Sequence[Check] = (),
    reuse: bool = True,
    reads: Callable[[dg.AssetExecutionContext], Mapping[str, object]] | None = None,
    points_at: PointsAt | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Asset]:
    """Declare an asset: the decorated function is its step.

    A parameter annotated as `dagster.ResourceParam` is a resource, `context` is Dagster's. Every
    other one is the value of the asset of its name. The step returns a value or a `Result`. An
    earlier result is reused where code, params and all that is read are the same.

    Parameters
    ----------
    codec : Codec
        How the value is stored.
    key : AssetKey, sequence of str or str, optional
        By default the function's name.
    inputs : mapping, optional
        By parameter, the key of an asset that has another name.
    upstream : sequence of str
        Parameters whose assets are further upstream: the step gets the very version that its direct
        inputs were computed from, and has no edge to them.
    decode : mapping, optional
        By parameter, what reads the bytes of its file (and the file's name) instead of its codec,
        for a step that needs only a part of the value.
    deps : sequence of AssetKey
        Further direct inputs, which the step reads by itself; they must be in `reads` too.
    blocking, warning : sequences of callables
        Checks, named and described as the functions are. The step calls them and returns their
        results. What a blocking one refuses is not published; a warning only shows.
    reuse : bool
        False for a step that depends on more than it reads, such as the time or a server.
    reads : callable, optional
        Returns, from the step's context, JSON-like content that the result depends on besides its
        code, params and inputs.
    points_at : callable
        Returns, from the Dagster instance, by asset the data versions of earlier results that the
        newest value needs, though they are no inputs. Garbage collection keeps their files; where
        one is gone or damaged, the asset is.
    options
        Further arguments of `dagster.asset`, such as `group_name`, `kinds`, `metadata`.
    """
    if "partitions_def" in options:
        raise TypeError("an asset of this engine has no partitions: declare an asset for each")

    def decorate(step: Callable[..., Any]) -> Asset:
        signature = inspect.signature(step).parameters
        resources = tuple(name for name, one in signature.items() if _is_resource(one.annotation))
        named = {
            name: (inputs or {}).get(name, dg.AssetKey(name))
            for name in signature
            if name != "context" and name not in resources
        }
        return Asset(
            dg.AssetKey(key or step.__name__) if not isinstance(key, dg.AssetKey) else key,
            step,
            codec,
            named,
            frozenset(named[name] for name in upstream),
            decode,
            (*(one for name, one in named.items() if name not in upstream), *deps),
            resources,
            blocking,
            warning,
            reuse,
            reads,
            points_at,
            options,
        )

    return decorate


def _is_resource(annotation: Any) -> bool:
    if isinstance(annotation, str):  # from __future__ import annotations
        return "ResourceParam[" in annotation
    return "resource_param" in getattr(annotation, "__metadata__", ())
