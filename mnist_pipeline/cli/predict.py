"""The commands that use the champion on your own digits."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnist_pipeline.cli.output import Answer, Command, table
from mnist_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from mnist_pipeline.digits.model.pipeline import TrainedModel


@click.command(cls=Command, nothing={})
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def predict(images: tuple[str, ...]) -> Answer:
    """Classify image files that show a handwritten digit each, with the champion.

    PNG, JPEG, WebP or BMP, photo or scan, dark on light or light on dark. Exits with 1 if a file
    could not be read; the others are answered.
    """
    from mnist_pipeline.assets import champion_history

    with open_session() as session:
        model = champion_history.load_champion(session.instance, session.pipeline.store)
    found = [_predicted(model, image) for image in images]
    status = int(any("error" in one for one in found))
    return Answer(found, lambda: _text(found), status=status)


def _predicted(model: "TrainedModel", image: str) -> dict[str, Any]:
    from mnist_pipeline.digits.errors import PictureError
    from mnist_pipeline.digits.images import files
    from mnist_pipeline.digits.images.classify import read_digit

    # a name that is not text in the encoding of file names has surrogates: no JSON has those
    path = os.fsencode(image).decode(errors="backslashreplace")
    try:
        return {"path": path, **read_digit(model, files.read(Path(image))).document}
    except PictureError as error:
        return {"path": path, "error": f"{path} {error}"}


def _text(found: Sequence[Mapping[str, Any]]) -> str:
    """One line a file: the digit and the next probable one, or the error."""
    from mnist_pipeline.digits.images.classify import warning

    rows = []
    for one in found:
        if "error" in one:
            rows.append(["-", "", one["error"]])
            continue
        second = sorted(one["scores"], key=one["scores"].get)[-2]
        sure = f"{one['confidence']:.1%} ({second}: {one['scores'][second]:.1%})"
        sure = " ".join(filter(None, [sure, warning(one["typicality"])]))
        rows.append([str(one["digit"]), sure, one["path"]])
    return table(["digit", "confidence", "file"], [[_shown(text) for text in row] for row in rows])


def _shown(text: str) -> str:
    """Return a text as stdout can encode it, without what controls a terminal."""
    printable = "".join(x if x.isprintable() else "?" for x in text)
    encoding = sys.stdout.encoding or "utf-8"
    return printable.encode(encoding, "backslashreplace").decode(encoding)


@click.command(cls=Command)
@click.option("--port", default=3030, show_default=True, type=click.IntRange(0, 65535))
def draw(port: int) -> None:
    """Serve pages on 127.0.0.1: draw digits for the champion, the report, the champion, an API.

    `mnist-pipeline ui` serves them too, at /digits/. --port 0 takes any that is free.
    """
    from mnist_pipeline.web import serving
    from mnist_pipeline.web.app import Served, build_app

    with serving.listen("127.0.0.1", port) as listening, open_session() as session:
        served = Served(session)
        served.model()  # without one there is nothing to draw for
        app = serving.SameOrigin(build_app(served), serving.HEADERS)
        click.echo(f"Draw at {serving.url_of('127.0.0.1', listening)} (Ctrl+C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            serving.server(app, limit_concurrency=32).run(sockets=[listening])
