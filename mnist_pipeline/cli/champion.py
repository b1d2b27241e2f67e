"""The command that shows the champion and the decisions about it, or asks for another."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mnist_pipeline.cli.output import Answer, Command, short, table, utc
from mnist_pipeline.cli.session import open_session
from mnist_pipeline.incremental.errors import SettingsError

if TYPE_CHECKING:
    from mnist_pipeline.digits.evaluation.champion import Past


@click.command(
    cls=Command,
    nothing={"model_version": None, "blocked": {}, "deleted_with_run": None, "history": []},
)
@click.option(
    "--rollback",
    metavar="[MODEL]",
    is_flag=False,
    flag_value="previous",
    help="Return to an earlier champion, by default the previous one; block the current one.",
)
@click.option(
    "--allow",
    metavar="[MODEL]",
    is_flag=False,
    flag_value="latest",
    help="Unblock a model, by default the latest blocked one, and decide on the newest again.",
)
@click.option(
    "--accept",
    metavar="MODEL",
    help="Promote the newest model although it cannot be compared or is of unproven digits.",
)
def champion(rollback: str | None, allow: str | None, accept: str | None) -> Answer:
    """Show which model is the champion and how that was decided; or change it.

    MODEL is a data version of sgd_model, or its beginning.
    """
    from mnist_pipeline.assets import champion_history

    if sum(asked is not None for asked in (rollback, allow, accept)) > 1:
        raise click.UsageError("--rollback, --allow and --accept exclude each other")
    error, trace, status = None, None, 0
    with open_session() as session:
        past = champion_history.decisions(session.instance)
        tags = {}
        try:
            if rollback is not None:
                tags[champion_history.ROLL_BACK] = champion_history.earlier(past, rollback)
                tags[champion_history.REJECTED] = champion_history.now(past).model_version or ""
            if allow is not None:
                current = champion_history.now(past)
                tags[champion_history.ALLOW] = champion_history.blocked(current, allow)
            if accept is not None:
                tags[champion_history.ACCEPT] = champion_history.refused(past, accept)
        except SettingsError as wrong:
            # the current state is in the document all the same
            error, status = str(wrong), 2
        if tags:
            with session.alone(session.pipeline.keys):
                done = session.run(
                    champion_history.DECIDED, trigger="mnist-pipeline champion", tags=tags
                )
            error, trace = done.error, done.trace
            past = champion_history.decisions(session.instance)
        deleted = champion_history.deleted_with(session.instance)
        lost = _lost(champion_history.is_wiped(session.instance), deleted)
    document = {
        **dataclasses.asdict(champion_history.now(past)),
        "deleted_with_run": deleted,
        "history": [dataclasses.asdict(one) for one in past],
    }
    return Answer(document, lambda: "" if error else _text(past, lost), error, trace, status)


def _lost(wiped: bool, deleted: str | None) -> list[str]:
    """Which decisions are not recorded any more."""
    if wiped:
        return [
            "The events of champion_model were wiped or deleted: only the last decision is left."
        ]
    if deleted:
        return [
            f"A newer decision was deleted with run {deleted}: this is what the remaining records "
            "hold. `mnist-pipeline refresh` decides again."
        ]
    return []


def _text(past: Sequence["Past"], lost: list[str]) -> str:
    """The champion, the blocked models, and one line a decision."""
    if not past:
        return "\n".join([*lost, "No decision is recorded: materialize champion_model."])
    champion = past[0].champion
    lines = [*lost, f"Champion: {champion.model_version or 'none'}."]
    lines += [f"Blocked: {version} ({why})." for version, why in champion.blocked.items()]
    rows = [
        [
            utc(one.timestamp),
            short(one.candidate),
            one.outcome,
            short(one.champion.model_version or "none"),
            one.why,
        ]
        for one in past
    ]
    heads = ["UTC", "candidate", "outcome", "champion then", "why"]
    return "\n".join([*lines, table(heads, rows)])
