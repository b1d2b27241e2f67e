"""The commands that try the champion on your own digits. Thin, as `cli` is."""

import contextlib
import socket
from pathlib import Path

import click

from mnist_pipeline.cli import documents
from mnist_pipeline.cli.upkeep import as_json_option
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.incremental.errors import SettingsError


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@as_json_option
def predict(images: tuple[str, ...], as_json: bool) -> int:
    """Read image files that show a handwritten digit each, with the champion.

    PNG, JPEG, WebP or BMP, photo or scan, dark on light or light on dark. Exits with 1 if a file
    could not be read; the others are answered.
    """
    from mnist_pipeline.assets import champion_history
    from mnist_pipeline.cli import tables
    from mnist_pipeline.cli.session import open_session
    from mnist_pipeline.digits.images import files
    from mnist_pipeline.digits.images.classify import Reading, read_digit

    with open_session() as session:
        model = champion_history.load_champion(session.instance, session.pipeline.store)
    found: list[tuple[str, Reading | PictureError]] = []
    for image in images:
        try:
            found.append((image, read_digit(model, files.read(Path(image)))))
        except PictureError as error:
            found.append((image, error))
    if as_json:
        documents.write_any(
            [
                {"path": path, "error": f"{path} {reading}"}
                if isinstance(reading, PictureError)
                else {
                    "path": path,
                    "digit": reading.digit,
                    "confidence": reading.confidence,
                    "scores": {str(d): float(p) for d, p in enumerate(reading.probabilities)},
                }
                for path, reading in found
            ]
        )
    else:
        click.echo(tables.readings(found))
    return int(any(isinstance(reading, PictureError) for _, reading in found))


@click.command()
@click.option("--port", default=3030, show_default=True, type=click.IntRange(0, 65535))
def draw(port: int) -> int:
    """Serve a page on 127.0.0.1 to draw digits on, which the champion reads.

    --port 0 takes any that is free.
    """
    import uvicorn

    from mnist_pipeline import web
    from mnist_pipeline.assets import champion_history
    from mnist_pipeline.cli.session import open_session

    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise SettingsError(f"--port {port} cannot be used: {error.strerror}") from None
    with listening, open_session() as session:
        instance, engine = session.instance, session.pipeline.engine
        served = web.Served(
            lambda: champion_history.champion_now(instance).model_version,
            lambda: champion_history.load_champion(instance, engine.store),
            lambda: champion_history.training_digits(engine, instance),
        )
        port = listening.getsockname()[1]
        app = web.build_app(served, port)
        click.echo(f"Draw at http://127.0.0.1:{port}/ (Ctrl+C ends it)")
        config = uvicorn.Config(
            app,
            log_level="error",
            server_header=False,
            limit_concurrency=32,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    return 0
