"""The command `init`."""

import shlex
from pathlib import Path

import click

from mnist_pipeline.cli.output import Answer, Command
from mnist_pipeline.incremental.errors import SettingsError


@click.command(cls=Command, nothing={"status": "failure", "written": []})
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> Answer:
    """Write the files of a project into FOLDER: params, settings, workspace.yaml, dagster.yaml.

    Without a clone, every command that runs in that folder uses them, and keeps its data there.
    """
    from mnist_pipeline.config import settings_file
    from mnist_pipeline.config.settings import DEFAULTS, IN_CLONE

    sources = {name: name for name in ("params.toml", "workspace.yaml", "dagster.yaml")}
    sources[settings_file.NAME] = settings_file.NAME + ".example" * IN_CLONE
    written = [folder / name for name in sources]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if existing := [one.name for one in written if one.exists() or one.is_symlink()]:
            raise SettingsError(
                f"{folder} has {', '.join(existing)}: nothing is overwritten. Name another folder"
            )
        for file, source in zip(written, sources.values(), strict=True):
            with file.open("xb") as new:
                new.write((DEFAULTS / source).read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot write {error.filename}: {error.strerror}") from None
    where = shlex.quote(str(folder))
    first = f"MNIST_PROJECT={where}" if IN_CLONE else f"cd {where} &&"
    text = f"{folder} is a project now. Next: {first} mnist-pipeline run"
    return Answer({"status": "success", "written": [str(file) for file in written]}, lambda: text)
