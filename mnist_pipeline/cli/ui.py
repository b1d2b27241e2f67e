"""The command `ui`."""

import contextlib
import os
import socket
import threading

import click

from mnist_pipeline.cli.output import Command
from mnist_pipeline.cli.session import open_session
from mnist_pipeline.incremental.errors import PipelineError


@click.command(cls=Command)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def ui(port: int, host: str) -> None:
    """Serve the Dagster UI with the project's history, and run its daemon.

    At /digits/ it serves the pages of `mnist-pipeline draw`. --port 0 takes any that is free.
    """
    from mnist_pipeline.config.settings import PROJECT, of_project
    from mnist_pipeline.incremental.ui import only_one, started
    from mnist_pipeline.web import serving
    from mnist_pipeline.web.app import Served, build_app

    with (
        open_session() as session,
        only_one(session) as lock,
        serving.listen(host, port) as listening,
    ):
        url = serving.url_of(host, listening)
        lock.write(f" at {url}")
        lock.flush()
        # what is wrong or was interrupted is reported here, not only in a browser
        for unfinished in session.unfinished():
            click.echo(f"run {unfinished.run_id} is in progress and goes on", err=True)
        if host not in {"127.0.0.1", "::1", "localhost"}:
            click.echo(
                f"Listening on {host}: everyone who reaches {url} can see everything, launch runs "
                "and delete history. SECURITY.md shows how to put a proxy before it.",
                err=True,
            )
        # for the code server, which starts elsewhere
        if PROJECT.is_dir():
            os.environ["MNIST_PROJECT"] = str(PROJECT)
        # Dagster loads a .env of its working directory over the environment; the home has none
        os.chdir(session.pipeline.home)
        with started(session, of_project("workspace.yaml"), lock) as (app, daemon):
            serving.mount(app.routes, "/digits", build_app(Served(session)))
            names = {"localhost", host.lower(), socket.gethostname().lower()}
            protected = serving.SameOrigin(app, names, posted=("/graphql",))
            server = serving.server(protected)

            def stop_without_the_daemon() -> None:
                daemon.wait()
                server.should_exit = True

            threading.Thread(target=stop_without_the_daemon, daemon=True).start()
            with contextlib.suppress(KeyboardInterrupt):
                click.echo(
                    f"Dagster UI at {url} (report and champion at {url}digits/; Ctrl+C ends it)"
                )
                server.run(sockets=[listening])
                raise PipelineError("Dagster's daemon ended, and the UI with it: start it again")
