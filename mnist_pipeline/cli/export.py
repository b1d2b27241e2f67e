"""The command that writes the champion with its cards into a folder."""

from pathlib import Path

import click

from mnist_pipeline.cli.output import Answer, Command
from mnist_pipeline.cli.session import open_session


@click.command(cls=Command, nothing={"status": "failure", "written": []})
@click.argument("folder", type=click.Path(path_type=Path))
def export(folder: Path) -> Answer:
    """Write the champion, its data, its evaluation and their cards into FOLDER, for others.

    README.md is the model card in Hugging Face's format, croissant.json the data card in
    Croissant's. Nothing is overwritten.
    """
    from mnist_pipeline.assets import publication

    with open_session() as session:
        paths = publication.export(session.pipeline.engine, session.instance, folder)
    written = [str(path) for path in paths]
    return Answer({"status": "success", "written": written}, lambda: "\n".join(written))
