"""The params file with another variant chosen, as long as that is tried. Thin, as `cli` is."""

import contextlib
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from mnist_pipeline import variants
from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import SettingsError

_say = partial(click.echo, err=True)


@dataclass
class Edit:
    """An edit of the params file: whether it is to stay, and what became of it if not."""

    keep: bool = False
    left: str = ""


@contextlib.contextmanager
def chosen(file: Path, name: str) -> Iterator[Edit]:
    """Choose a variant in the params file; put the file back, byte for byte, unless it is to stay.

    Raises
    ------
    SettingsError
        The file cannot be edited: says what to write by hand.
    """
    with _one_at_a_time(file):
        yield from _edited(file, name)


def _edited(file: Path, name: str) -> Iterator[Edit]:
    from mnist_pipeline import running

    edit = Edit()
    by_hand = f'write {variants.CHOSEN} = "{name}" under [model] yourself, then refresh'
    before = file.read_bytes()
    text = variants.choosing(before.decode("utf-8"), name)
    if text is None:
        raise SettingsError(f"{file} is written in a way that promote cannot edit: {by_hand}")
    after = text.encode()
    try:
        try:
            if after != before:
                _replace(file, after)
        except OSError as error:
            raise SettingsError(
                f"{file} cannot be written: {error.strerror}. Where it can, {by_hand}"
            ) from None
        _say(f'{file} says {variants.CHOSEN} = "{name}" now: refreshing')
        running.forget()
        yield edit
    finally:
        if edit.keep or after == before:
            edit.left = f"{file} names it, as before."
        elif (now := file.read_bytes()) == before:
            edit.left = f"{file} is as it was."
        elif now == after:
            _replace(file, before)
            edit.left = (
                f"{file} is as it was, and what was in service stays. `mnist-pipeline refresh` "
                "makes sgd_model, and what follows from it, as that file says."
            )
        else:
            edit.left = f"{file} was edited by somebody else meanwhile, and is left so."
        if sys.exc_info()[0]:
            _say(edit.left)
        running.forget()


@contextlib.contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        # where nobody can write, nobody can edit either: that is said then
        with contextlib.suppress(OSError):
            stack.enter_context(files.locked(file.with_name(f".{file.name}.promote.lock")))
        yield


def _replace(file: Path, data: bytes) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    files.replace(file, data)
    file.chmod(mode)
