"""How a step ends: its guards are heard, and the value is published or refused."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import dagster as dg

from mnist_pipeline.incremental import _dagster
from mnist_pipeline.incremental.check import CheckResult
from mnist_pipeline.incremental.digest import content_digest

T = TypeVar("T")
Guard = Callable[..., CheckResult]

OWNERS = ["team:mnist-pipeline"]

MADE_FROM = "made_from"
"""Metadata of a refusal: `made_from` of what was refused."""


def made_from(code_version: str | None, inputs: Mapping[str, str | None]) -> str:
    """Digest a step's code version and, by asset, the data versions of its inputs."""
    return content_digest({"code_version": code_version, "inputs": dict(inputs)})


def published_asset(
    produces: type,
    *,
    group_name: str,
    kind: str,
    name: str | None = None,
    blocking: Sequence[Guard] = (),
    warning: Sequence[Guard] = (),
    **more: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorate a step that ends with `judged`: `dagster.asset` with what all assets here share.

    Parameters
    ----------
    produces : type
        Class of the value. Of a step with checks Dagster cannot tell it from the annotation.
    group_name, kind : str
        As the UI shows them.
    name : str, optional
        The asset's key, where it is not the function's name.
    blocking, warning : sequences of guards
        The asset's checks, named and described as the guards are. What a blocking one refuses is
        not published; a warning only shows.
    more
        Further arguments of `dagster.asset`.
    """

    def decorate(step: Callable[..., Any]) -> dg.AssetsDefinition:
        asset = name or step.__name__
        specs = [
            dg.AssetCheckSpec(
                guard.__name__,
                asset=asset,
                blocking=guard in blocking,
                description=inspect.getdoc(guard),
            )
            for guard in [*blocking, *warning]
        ]
        define = dg.asset(
            name=asset,
            group_name=group_name,
            kinds={kind},
            owners=OWNERS,
            dagster_type=cast("Any", produces),
            check_specs=specs,
            config_schema={},  # params are in params.toml: nothing is to be set for one run
            **more,
        )
        return cast("dg.AssetsDefinition", define(step))

    return decorate


def judged(
    context: dg.AssetExecutionContext,
    value: T,
    verdicts: Sequence[CheckResult],
    metadata: Mapping[str, Any],
    *,
    only_told: bool = False,
) -> dg.MaterializeResult[T]:
    """Publish the value if no blocking guard refused it, with every verdict as a check result.

    Verdicts that are `only_told` stop nothing: they are recorded as warnings.

    Raises
    ------
    dagster.Failure
        A blocking guard refused the value. Its check is recorded as failed, without a
        materialization as its target: none is made, and the one before is not what was judged.
    """
    if not only_told:
        hear(context, verdicts)
    specs = {spec.name: spec for spec in context.assets_def.check_specs}
    selected = {key.name for key in context.selected_asset_check_keys}
    results = [
        dg.AssetCheckResult(
            passed=verdict.passed,
            check_name=verdict.name,
            severity=dg.AssetCheckSeverity.WARN if only_told else _severity(specs[verdict.name]),
            description=verdict.description,
            metadata=verdict.metadata,
        )
        for verdict in verdicts
        if verdict.name in selected
    ]
    return dg.MaterializeResult(value=value, metadata=metadata, check_results=results)


def hear(context: dg.AssetExecutionContext, verdicts: Sequence[CheckResult]) -> None:
    """Go on if no blocking guard refused; for a step that must not start its work otherwise.

    Raises
    ------
    dagster.Failure
        As `judged` does.
    """
    specs = {spec.name: spec for spec in context.assets_def.check_specs}
    refused = [v for v in verdicts if specs[v.name].blocking and not v.passed]
    if refused:
        code_version = context.assets_def.code_versions_by_key[context.asset_key]
        read = _dagster.inputs_of(context)
        versions = {key: found.data_version if found else None for key, found in read.items()}
        origin = made_from(code_version, versions)
        for verdict in verdicts:
            spec = specs[verdict.name]
            context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=spec.asset_key,
                    check_name=spec.name,
                    passed=verdict.passed,
                    severity=_severity(spec),
                    description=verdict.description,
                    metadata={**verdict.metadata, MADE_FROM: origin},
                    blocking=spec.blocking,
                )
            )
        saw = "; ".join(f"{verdict.name}: {verdict.description}" for verdict in refused)
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} is refused and not published. {saw}",
            allow_retries=False,
        )


class Seconds:
    """A stopwatch that runs from its making on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self) -> float:
        """Seconds so far, to the millisecond."""
        return round(time.perf_counter() - self._start, 3)


def _severity(spec: dg.AssetCheckSpec) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN
