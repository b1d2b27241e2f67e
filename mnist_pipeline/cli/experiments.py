"""The commands that compare variants of the model, and choose one."""

import dataclasses
import os
import time
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnist_pipeline.cli.output import Answer, Command, table
from mnist_pipeline.cli.session import open_session
from mnist_pipeline.config import variants
from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import SettingsError

if TYPE_CHECKING:
    from mnist_pipeline.digits.evaluation.leaderboard import Leaderboard
    from mnist_pipeline.digits.params import ModelParams


@click.command(cls=Command, nothing={"fitted": [], "entries": [], "left_out": {}, "seconds": 0.0})
@click.argument("names", nargs=-1, metavar="[VARIANT]...")
def compare(names: tuple[str, ...]) -> Answer:
    """Fit the variants of the params file that are not fitted yet, and compare them.

    All of them, or those that are named; the leaderboard has all that are fitted, the model of
    [model] and the champion. The job `experiments` in the UI does the same.
    """
    from mnist_pipeline.assets import experiments

    start = time.perf_counter()
    known = _known(names)
    with open_session() as session:
        done = experiments.compare(session, names or list(known))
    board = done.leaderboard
    document = {
        "fitted": done.fitted,
        **(dataclasses.asdict(board) if board else {"entries": [], "left_out": {}}),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return Answer(document, lambda: _leaderboard(board) if board else "", done.error, done.trace)


@click.command(
    cls=Command,
    nothing={"status": "failure", "variant": None, "file": None, "changed": False},
)
@click.argument("name", metavar="VARIANT")
def promote(name: str) -> Answer:
    """Make a VARIANT the model, in the params file: model.variant.

    `mnist-pipeline refresh` fits it then, and the gate decides whether it becomes the champion.
    """
    from mnist_pipeline.config.settings import Settings

    _known([name])
    # of a link, the target is edited
    file = Settings.load().params_file.resolve()
    changed = _choose(file, name)
    line = f'{variants.CHOSEN} = "{name}"'
    text = (
        f"{file} {'now' if changed else 'already'} has {line}.\n`mnist-pipeline refresh` fits and "
        "evaluates it; the gate decides whether it becomes the champion."
    )
    document = {"status": "success", "variant": name, "file": str(file), "changed": changed}
    return Answer(document, lambda: text)


def _leaderboard(board: "Leaderboard") -> str:
    """One line a variant, best first; then those that were left out."""
    rows = [
        [
            str(place),
            one.variant,
            f"{one.accuracy:.2%}",
            "{:.2%} to {:.2%}".format(*one.accuracy_interval),
            f"{one.only_this_right} / {one.only_best_right}" if place > 1 else "",
            f"{one.p_value:.3g}" if place > 1 else "",
            board.differences(one),
        ]
        for place, one in enumerate(board.entries, 1)
    ]
    heads = ["", "variant", "accuracy", "95% interval", "won / lost", "p", "differs in"]
    left = [f"Left out: {name}, {why}." for name, why in board.left_out.items()]
    return "\n".join([f"On {board.n_validation:,} validation rows:", table(heads, rows), *left])


def _known(names: Collection[str]) -> Mapping[str, "ModelParams"]:
    """Return the variants of the params file; SettingsError without any, or without these."""
    from mnist_pipeline.config.params import Params
    from mnist_pipeline.config.settings import DEFAULTS, IN_CLONE, Settings

    file = Settings.load().params_file
    if file.parent == DEFAULTS and not IN_CLONE:
        raise SettingsError(
            "the params are the package's own, which have no variants: `mnist-pipeline init "
            "FOLDER` writes a params.toml that can be edited"
        )
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
    """Choose a variant in a params file; return whether that changes it. Raises SettingsError."""
    by_hand = f'write {variants.CHOSEN} = "{name}" under [model] yourself'
    try:
        before = file.read_bytes().decode()
        after = with_variant(before, name)
        if after is None:
            raise SettingsError(f"promote cannot edit {file} as it is written: {by_hand}")
        # a rename would replace a read-only file all the same
        if after != before and not (file.stat().st_mode & 0o222 and os.access(file, os.W_OK)):
            raise SettingsError(f"{file} is read-only. Where it can be written, {by_hand}")
        if after != before:
            files.replace(file, after.encode())
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be written: {error.strerror}. Where it can be, {by_hand}"
        ) from None
    return after != before


def with_variant(text: str, name: str) -> str | None:
    """Return the text of a params file with this variant chosen in `[model]`, all else as it is.

    None where an edit would not do that, or more than that.
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
        model_table = document.setdefault("model", tomlkit.table())
        body = model_table.value.body if isinstance(model_table, Table) else []
        # comments at the end of a table are about the next one: the new key goes before them
        start = max((at for at, (key, _) in enumerate(body, 1) if key is not None), default=0)
        comments = body[start:]
        del body[start:]
        model_table[variants.CHOSEN] = name
        body.extend(comments)
        edited = tomlkit.dumps(document).replace("\n", ending)
        return edited if tomllib.loads(edited) == wanted else None
    except (TOMLKitError, ValueError, RecursionError):
        return None
