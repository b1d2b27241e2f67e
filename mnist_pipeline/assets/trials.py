"""Fitting variants one after another in this process, and comparing them: what `compare` does."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace

import dagster as dg

from mnist_pipeline.assets import experiments
from mnist_pipeline.assets.experiments import CANDIDATE, LEADERBOARD, Experiments
from mnist_pipeline.digits.leaderboard import Leaderboard
from mnist_pipeline.incremental import failures, partitions, refresh, status
from mnist_pipeline.incremental._dagster import Graph
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.history import TRIGGER
from mnist_pipeline.incremental.runs import Say
from mnist_pipeline.incremental.store import Store

_TRAIN = dg.AssetKey("train_set")


@dataclass(frozen=True)
class Trials:
    """What was fitted, the leaderboard then (None if it was not made), and what failed."""

    fitted: list[str]
    leaderboard: Leaderboard | None
    error: str | None


def compare(
    job: dg.JobDefinition,
    train_version: str | None,
    instance: dg.DagsterInstance,
    store: Store,
    known: Experiments,
    wanted: Collection[str],
    *,
    trigger: str,
    say: Say = lambda text: None,
) -> Trials:
    """Fit those of the wanted variants that have no candidate of now, then make the leaderboard.

    Each fit is a run of its own. What fails leaves the others as they are.

    Parameters
    ----------
    job : JobDefinition
        Of all assets, the experiments' too.
    train_version : str
        Data version of the training digits of now.
    trigger : str
        What the runs say that they were asked for by.
    """
    # to remove some is for the deployment's own sensor
    instance.add_dynamic_partitions(experiments.VARIANTS.name or "", list(wanted))
    fitted: list[str] = []
    problems: list[str] = []
    try:
        for number, name in enumerate(wanted, 1):
            # somebody else may fit variants too
            made = partitions.newest(instance, CANDIDATE, {name})
            one = replace(known, variants={name: known.variants[name]})
            if name in experiments.of_now(one, instance, store, made, train_version)[0]:
                continue
            say(f"fitting {name}, {number} of {len(wanted)}")
            failed = refresh.run(
                job, instance, store, str(uuid.uuid4()), [CANDIDATE], {TRIGGER: trigger}, name
            )
            if failed:
                problems.append(f"{name}: {failed}")
            else:
                fitted.append(name)
        run_id = str(uuid.uuid4())
        failed = refresh.run(job, instance, store, run_id, [LEADERBOARD], {TRIGGER: trigger})
    except KeyboardInterrupt:
        return Trials(fitted, None, failures.INTERRUPTED)
    problems += [failed] if failed else []
    board = None if failed else experiments.leaderboard(instance, store)
    return Trials(fitted, board, "\n".join(problems) or None)


def fresh_train_version(graph: Graph, instance: dg.DagsterInstance, store: Store) -> str | None:
    """Return the data version of the training digits, which must be fresh.

    Raises
    ------
    StoreError
        They are not.
    """
    found = status.assess(graph, instance, store)[_TRAIN]
    if found.status != "fresh":
        raise StoreError(
            f"train_set is {found.status} ({'; '.join(found.causes)}): `mnist-pipeline refresh` "
            "comes first"
        )
    return found.data_version
