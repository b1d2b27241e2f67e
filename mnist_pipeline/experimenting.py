"""The commands that try variants of the model, and make one the model. Thin, as `cli` is."""

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from mnist_pipeline.incremental.errors import SettingsError, StoreError
from mnist_pipeline.upkeep import as_json_option

if TYPE_CHECKING:
    from mnist_pipeline.incremental.refresh import Refreshed
    from mnist_pipeline.params import ModelParams


@click.command()
@click.argument("names", nargs=-1, metavar="[VARIANT]...")
@as_json_option
def compare(names: tuple[str, ...], as_json: bool) -> int:
    """Fit the variants of the params file that are not fitted yet, and compare them.

    All of them, or those that are named; the leaderboard has all that are fitted. A backfill of
    candidate in the UI does the same, over all workers.
    """
    from mnist_pipeline import running, tables
    from mnist_pipeline.assets import experiments

    start = time.perf_counter()
    known = _known(names)
    with running.opened() as session:
        done = experiments.compare(session, known, names or list(known))
    board = done.leaderboard
    if as_json:
        content = dataclasses.asdict(board) if board else {"entries": [], "left_out": {}}
        documents.write(done.error, fitted=done.fitted, **content, seconds=_since(start))
    else:
        if board:
            click.echo(tables.leaderboard(board))
        if done.error:
            click.echo(f"Failed: {done.error}", err=True)
    return 1 if done.error else 0


@click.command()
@click.argument("name", metavar="VARIANT")
@as_json_option
def promote(name: str, as_json: bool) -> int:
    """Choose a VARIANT as the model in the params file, and refresh: it may become the champion.

    The gate decides. If the variant is not in service then, the params file is put back.
    """
    from mnist_pipeline.settings import Settings

    start = time.perf_counter()
    known = _known([name])
    candidate = _candidate(name, known)
    # of a link, what it leads to is edited
    file = Settings.load().params_file.resolve()
    with choosing.chosen(file, name) as edit:
        refreshed, ruling = _refresh()
        edit.keep = bool(ruling["in_service"])
    error = None if edit.keep else str(ruling["why"])
    if edit.keep and refreshed.error:
        error = f"{name} is in service, but not all is fresh: {refreshed.error}"
    elif not edit.keep:
        error = f"{name} is not in service: {error}\n{edit.left}"
    same = candidate == ruling["model_version"]
    if as_json:
        documents.write(
            error,
            status=documents.word(error is None),
            variant=name,
            candidate=candidate,
            same_as_candidate=same,
            **ruling,
            materialized=refreshed.materialized,
            seconds=_since(start),
        )
        return 1 if error else 0
    if not same and edit.keep:
        _say(
            f"note: sgd_model {ruling['model_version']} is not the candidate {candidate}: it was "
            "fitted on another kind of machine, or things changed meanwhile"
        )
    if error:
        click.echo(f"Failed: {error}", err=True)
        return 1
    click.echo(f"In service: {name}, sgd_model {ruling['model_version']}. {ruling['why']}.")
    click.echo(f"{file} names it now (model.{variants.CHOSEN}): commit that, and deploy it.")
    return 0


def _known(names: tuple[str, ...] | list[str]) -> Mapping[str, "ModelParams"]:
    """Return the variants of the params file, which must have those of these names, and some.

    Raises
    ------
    SettingsError
        It does not.
    """
    from mnist_pipeline.params import Params
    from mnist_pipeline.settings import Settings

    file = Settings.load().params_file
    known = Params.load(file).variants
    for name in names:
        if name not in known:
            raise SettingsError(f"{file} has no variant {name!r}. {variants.known(known)}")
    if not known:
        raise SettingsError(
            f"{file} has no variants: give some under [variants.NAME], or a [sweep] "
            "(docs/experiments.md)"
        )
    return known


def _candidate(name: str, known: Mapping[str, "ModelParams"]) -> str | None:
    """Return the data version of a variant's candidate.

    Raises
    ------
    StoreError
        There is none that is of now.
    """
    from mnist_pipeline import running
    from mnist_pipeline.assets import experiments, trials
    from mnist_pipeline.assets.experiments import CANDIDATE
    from mnist_pipeline.incremental import partitions

    with running.opened() as pipeline:
        train_version = trials.fresh_train_version(
            pipeline.graph, pipeline.instance, pipeline.store
        )
        of_graph = experiments.of_graph(pipeline.definitions.resolve_asset_graph(), known)
        made = partitions.newest(pipeline.instance, CANDIDATE)
        found, left_out = experiments.of_now(
            of_graph, pipeline.instance, pipeline.store, made, train_version
        )
        if name not in found:
            raise StoreError(
                f"variant {name} cannot be promoted: {left_out[name]}. "
                f"`mnist-pipeline compare {name}` fits it"
            )
        return found[name][0].data_version


def _refresh() -> tuple["Refreshed", dict[str, object]]:
    """Refresh, and say what was decided about the model that stands then."""
    from mnist_pipeline import running
    from mnist_pipeline.assets import champion_history
    from mnist_pipeline.incremental import refresh, status

    with running.opened() as pipeline:
        instance, store = pipeline.instance, pipeline.store
        refreshed = refresh.refresh(
            pipeline.job,
            instance,
            store,
            trigger="mnist-pipeline promote",
            changed=pipeline.changed,
            say=_say,
        )
        model = status.assess(pipeline.graph, instance, store)[champion_history.MODEL]
        past = champion_history.rulings(instance)
    about = [one for one in past if one.candidate == model.data_version]
    champion = champion_history.now(past).model_version
    its_own = model.status == "fresh"
    return refreshed, {
        "model_version": model.data_version if its_own else None,
        "champion": champion,
        "in_service": its_own and champion == model.data_version,
        "why": about[0].why if its_own and about else refreshed.error or "nothing was decided",
    }


def _say(text: str) -> None:
    click.echo(text, err=True)


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
