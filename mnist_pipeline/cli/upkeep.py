"""The commands that look back, at what was made and decided, and tidy up. Thin, as `cli` is."""

import dataclasses

import click

from mnist_pipeline.cli import documents
from mnist_pipeline.incremental.errors import SettingsError

as_json_option = click.option(
    documents.OPTION, "as_json", is_flag=True, help="Print one JSON document on stdout."
)


@click.command()
@click.argument("asset", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json_option
def history(asset: str | None, limit: int, as_json: bool) -> int:
    """List materializations, newest first: of everything, or of one ASSET."""
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    with open_session() as session:
        keys = None if asset is None else session.select(f'key:"{asset}"')
        made = session.history(keys, limit)
    if as_json:
        documents.write(None, materializations=[tables.event(item) for item in made])
    else:
        click.echo(tables.history(made))
    return 0


@click.command()
@click.option(
    "--rollback",
    metavar="[MODEL]",
    is_flag=False,
    flag_value="previous",
    help="Return to an earlier champion, by default the one before; bar the one it leaves.",
)
@click.option(
    "--allow",
    metavar="[MODEL]",
    is_flag=False,
    flag_value="latest",
    help="Lift a bar, by default the latest, and let the newest model try the gate again.",
)
@as_json_option
def champion(rollback: str | None, allow: str | None, as_json: bool) -> int:
    """Show which model is in service and how that came; or change it.

    MODEL is a data version of sgd_model, or its beginning.
    """
    from mnist_pipeline.assets import champion_history
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    if rollback is not None and allow is not None:
        raise click.UsageError("--rollback and --allow exclude each other")
    error, status = None, 1
    with open_session() as session:
        past = champion_history.decisions(session.instance)
        tags = {}
        try:
            if rollback is not None:
                tags[champion_history.ROLL_BACK] = champion_history.earlier(past, rollback)
            if allow is not None:
                current = champion_history.now(past)
                tags[champion_history.ALLOW] = champion_history.blocked(current, allow)
        except SettingsError as wrong:
            error, status = str(wrong), 2
        if tags:
            with session.alone(session.pipeline.keys):
                done = session.run(
                    champion_history.DECIDED, trigger="mnist-pipeline champion", tags=tags
                )
            error = done.error
            past = champion_history.decisions(session.instance)
        deleted = champion_history.deleted_with(session.instance)
    if as_json:
        documents.write(
            error,
            **dataclasses.asdict(champion_history.now(past)),
            deleted_with_run=deleted,
            history=[dataclasses.asdict(one) for one in past],
        )
    elif error:
        click.echo(f"Failed: {error}", err=True)
    else:
        click.echo(tables.rulings(past, deleted))
    return status if error else 0


@click.command()
@click.option(
    "--keep",
    required=True,
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Keep what the newest N materializations of each asset point at.",
)
@click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only list them.")
@as_json_option
def gc(keep: int, dry_run: bool, as_json: bool) -> int:
    """Remove artifacts that nothing points at any more.

    The model that the champion names stays, however old.
    """
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    with open_session() as session:
        found = session.collect_garbage(keep=keep, dry_run=dry_run)
    if as_json:
        removed = [{"path": str(item.path), "bytes": item.size} for item in found]
        documents.write(None, dry_run=dry_run, removed=removed)
    else:
        click.echo(tables.leftovers(found, dry_run=dry_run))
    return 0
