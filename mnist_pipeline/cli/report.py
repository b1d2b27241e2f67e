"""The command that shows where the newest report is, or opens it."""

import tempfile
import webbrowser
from pathlib import Path

import click

from mnist_pipeline.cli.output import Answer, Command
from mnist_pipeline.cli.session import open_session
from mnist_pipeline.incremental.errors import PipelineError, StoreError


@click.command(cls=Command, nothing={"path": None})
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser, too.")
def report(is_opened: bool) -> Answer:
    """Print the path of the newest report; of one in a bucket, its URL.

    `mnist-pipeline ui` and `mnist-pipeline draw` have a page for it, too.
    """
    with open_session() as session:
        file = session.newest_file("report")
        if file is None:
            raise StoreError("there is no report yet: run `mnist-pipeline refresh`")
        data = session.pipeline.store.read(file)
    if is_opened:
        path = file.path
        if not isinstance(path, Path):
            # kept: the browser reads it when it likes
            path = Path(tempfile.mkdtemp(prefix="mnist-report-")) / file.filename
            path.write_bytes(data)
        if not webbrowser.open(path.absolute().as_uri()):
            raise PipelineError(f"no browser could be started: open {path} in one")
    return Answer({"path": str(file.path)}, lambda: str(file.path))
