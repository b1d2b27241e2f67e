"""The commands that compare variants of the model, and choose one."""

import dataclasses
import os
import stat
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnist_pipeline.cli import documents
from mnist_pipeline.cli.upkeep import as_json_option
from mnist_pipeline.config import variants
from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import SettingsError

if TYPE_CHECKING:
    from mnist_pipeline.digits.params import ModelParams


@click.command()
@click.argument("names", nargs=-1, metavar="[VARIANT]...")
@as_json_option
def compare(names: tuple[str, ...], as_json: bool) -> int:
    """Fit the variants of the params file that are not fitted yet, and compare them.

    All of them, or those that are named; the leaderboard has all that are fitted. A backfill of
    candidate in the UI does the same, over all workers.
    """
    from mnist_pipeline.assets import experiments
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session

    start = time.perf_counter()
    known = _known(names)
    with open_session() as session:
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
    """Make a VARIANT the model, in the params file: model.variant.

    `mnist-pipeline refresh` fits it then, and the gate decides whether it becomes the champion.
    """
    from mnist_pipeline.config.settings import Settings

    _known([name])
    # of a link, the target is edited
    file = Settings.load().params_file.resolve()
    changed = _choose(file, name)
    if as_json:
        documents.write(None, status="success", variant=name, file=str(file), changed=changed)
        return 0
    line = f'{variants.CHOSEN} = "{name}"'
    click.echo(f"{file} now has {line}." if changed else f"{file} already has {line}: no change.")
    click.echo(
        "`mnist-pipeline refresh` fits and evaluates it; the gate decides whether it becomes the "
        "champion."
    )
    return 0


def _known(names: tuple[str, ...] | list[str]) -> Mapping[str, "ModelParams"]:
    """Return the variants of the params file, which must have those of these names, and some.

    Raises
    ------
    SettingsError
        It does not.
    """
    from mnist_pipeline.config.params import Params
    from mnist_pipeline.config.settings import Settings

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


def _choose(file: Path, name: str) -> bool:
    """Choose a variant in a params file, atomically; return whether that changes it.

    Raises
    ------
    SettingsError
        The file cannot be edited.
    """
    by_hand = f'write {variants.CHOSEN} = "{name}" under [model] yourself'
    try:
        before, mode = file.read_bytes(), stat.S_IMODE(file.stat().st_mode)
        text = with_variant(before.decode(), name)
        if text is None:
            raise SettingsError(f"promote cannot edit {file} as it is written: {by_hand}")
        after = text.encode()
        if after == before:
            return False
        # a rename would replace a read-only file all the same
        if not (mode & 0o222 and os.access(file, os.W_OK)):
            raise SettingsError(f"{file} is read-only. Where it can be written, {by_hand}")
        files.replace(file, after)
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be written: {error.strerror}. Where it can be, {by_hand}"
        ) from None
    return True


def with_variant(text: str, name: str) -> str | None:
    """Return the text of a params file with this variant chosen in `[model]`, all else as it is.

    Parameters
    ----------
    text : str
        Valid TOML, with its own line endings.
    name : str

    Returns
    -------
    None where an edit would not say that, or more than that.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import Table

    ending = "\r\n" if text.count("\n") == text.count("\r\n") > 0 else "\n"
    try:
        wanted = tomllib.loads(text)
        model = wanted.setdefault("model", {})
        if model.get(variants.CHOSEN) == name:
            return text
        model[variants.CHOSEN] = name
        document = tomlkit.parse(text.replace(ending, "\n"))
        table = document.setdefault("model", tomlkit.table())
        body = table.value.body if isinstance(table, Table) else []
        # comments at the end of a table are about the next one: the new key goes before them
        start = max((at for at, (key, _) in enumerate(body, 1) if key is not None), default=0)
        comments = body[start:]
        del body[start:]
        table[variants.CHOSEN] = name
        body.extend(comments)
        edited = tomlkit.dumps(document).replace("\n", ending)
        return edited if tomllib.loads(edited) == wanted else None
    except (TOMLKitError, ValueError, RecursionError):
        return None


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
