"""Experiments: the variants as partitions of `candidate`, and which candidates are of now."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import ValidationError

from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.incremental import _dagster
from mnist_pipeline.incremental._dagster import Graph, Recorded
from mnist_pipeline.incremental.errors import PipelineError
from mnist_pipeline.incremental.records import artifact_of, newest
from mnist_pipeline.incremental.store import Artifact, Store
from mnist_pipeline.params import ModelParams

CANDIDATE = dg.AssetKey("candidate")
LEADERBOARD = dg.AssetKey("leaderboard")
KEYS = [CANDIDATE, LEADERBOARD]

Request = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest

VARIANTS = dg.DynamicPartitionsDefinition(name="variants")

GONE = "its file is gone from the store, or damaged"

_TICK_SECONDS = 10


@dataclass(frozen=True)
class Experiments:
    """The variants of now, the code version of `candidate` now, and its blocking checks."""

    variants: Mapping[str, ModelParams]
    code_version: str
    blocking: Collection[dg.AssetCheckKey]


def of_graph(graph: Graph, variants: Mapping[str, ModelParams]) -> Experiments:
    """Return the variants with what the graph of all assets says of `candidate`."""
    node = graph.get(CANDIDATE)
    blocking = [check for check in node.check_keys if graph.get(check).blocking]
    return Experiments(variants, node.code_version or "", blocking)


def leaderboard(instance: dg.DagsterInstance, store: Store) -> Leaderboard | None:
    """Read the newest leaderboard, or None if there never was one.

    Raises
    ------
    StoreError, FormatError
        Its file is gone, damaged or something else.
    """
    for made in newest(instance, LEADERBOARD, 1):
        if artifact := artifact_of(store, LEADERBOARD.to_user_string(), made):
            return Leaderboard.from_json(store.read(artifact))
    return None


def variants_sensor(names_now: Callable[[], Collection[str]]) -> dg.SensorDefinition:
    """Define the sensor that lets partitions follow the params file.

    It is on by default: it launches nothing, and without it there would be nothing to launch.

    Parameters
    ----------
    names_now : callable
        Returns the names of the variants as they are now.
    """

    @dg.sensor(
        name="variants",
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds and removes partitions of candidate as variants come and go in the "
        "params file. It launches nothing.",
    )
    def variants(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            names = names_now()
        except PipelineError as error:
            return dg.SkipReason(f"the params file does not load: {error}")
        there = context.instance.get_dynamic_partitions(VARIANTS.name or "")
        added = [name for name in names if name not in set(there)]
        removed = [name for name in there if name not in set(names)]
        requests: list[Request] = [VARIANTS.build_add_request(added)] if added else []
        requests += [VARIANTS.build_delete_request(removed)] if removed else []
        what = [f"added {', '.join(added)}"] if added else []
        what += [f"removed {', '.join(removed)}"] if removed else []
        return dg.SensorResult(
            dynamic_partitions_requests=requests,
            skip_reason="; ".join(what) or f"{len(there)} variants, none came or went",
        )

    return variants


def of_now(
    experiments: Experiments,
    instance: dg.DagsterInstance,
    store: Store,
    made: Mapping[str, Recorded],
    train_version: str | None,
) -> tuple[dict[str, tuple[Recorded, Artifact]], dict[str, str]]:
    """Say which variants have a candidate that is what a fit would make now, and why others do not.

    Parameters
    ----------
    made : mapping
        By variant, its materialization.
    train_version : str or None
        Data version of the training digits that are to count.

    Returns
    -------
    found : dict
        By variant, its materialization and its file.
    left_out : dict
        By variant, the reason.
    """
    found: dict[str, tuple[Recorded, Artifact]] = {}
    left_out: dict[str, str] = {}
    for name, params in experiments.variants.items():
        candidate = made.get(name)
        if candidate is None:
            left_out[name] = "not fitted yet"
            continue
        artifact = artifact_of(store, CANDIDATE.to_user_string(), candidate)
        if why := _other_params(candidate, params):
            left_out[name] = why
        elif candidate.inputs.get("train_set") != train_version:
            left_out[name] = "fitted on other training digits than those of now"
        elif candidate.code_version != experiments.code_version:
            left_out[name] = "fitted with other code, libraries or [validation] than those of now"
        elif artifact is None or store.size(artifact) != artifact.size:
            left_out[name] = GONE
        elif refused := _dagster.refusals(instance, candidate.data_version, experiments.blocking):
            left_out[name] = f"refused by its check {', '.join(refused)}"
        else:
            found[name] = candidate, artifact
    return found, left_out


def _other_params(candidate: Recorded, params: ModelParams) -> str | None:
    """Say in which params a candidate is not of now, or None. The preset is only a name."""
    recorded = candidate.metadata.get("params")
    then: Any = recorded.value if recorded else {}
    try:
        fitted = ModelParams.model_validate(then)
    except ValidationError:
        return "fitted with params that are not allowed any more"
    now = params.model_dump(exclude={"preset"})
    before = fitted.model_dump(exclude={"preset"})
    other = [f"{key} {before[key]} then, {now[key]} now" for key in now if now[key] != before[key]]
    return f"fitted with other params: {', '.join(other)}" if other else None
