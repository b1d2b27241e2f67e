"""The commands that use the champion on your own digits."""

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnist_pipeline.cli.output import Answer, Command, table
from mnist_pipeline.cli.session import open_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mnist_pipeline.digits.model.pipeline import TrainedModel

    Pixels = npt.NDArray[np.uint8]


@click.command(cls=Command, nothing={})
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def predict(images: tuple[str, ...]) -> Answer:
    """Classify image files that show a handwritten digit each, with the champion.

    PNG, JPEG, WebP or BMP, photo or scan, dark on light or light on dark. Exits with 1 if a file
    could not be read; the others are answered.
    """
    from mnist_pipeline.assets import champion_history
    from mnist_pipeline.digits.sources import registry

    with open_session() as session:
        model = champion_history.load_champion(session.instance, session.pipeline.store)
    seen: list[Pixels] = []
    found = [_predicted(model, image, seen) for image in images]
    status = int(any("error" in one for one in found))

    def text() -> str:
        source = registry.by_name(model.origin.source)
        return f"{_text(found, source.noun, source.class_names)}\n\n{_drawn(seen)}".rstrip()

    return Answer(found, text, status=status)


def _predicted(model: "TrainedModel", image: str, seen: list["Pixels"]) -> dict[str, Any]:
    """Return the answer for an image; the input of the model is added to `seen`."""
    from mnist_pipeline.digits.errors import PictureError
    from mnist_pipeline.digits.images import files
    from mnist_pipeline.digits.images.classify import read_digit

    # a name that is not text in the encoding of file names has surrogates: no JSON has those
    path = os.fsencode(image).decode(errors="backslashreplace")
    try:
        reading = read_digit(model, files.read(Path(image)))
        seen.append(reading.seen)
        return {"path": path, **reading.document}
    except PictureError as error:
        return {"path": path, "error": f"{path} {error}"}


def _text(found: Sequence[Mapping[str, Any]], noun: str, names: Sequence[str]) -> str:
    """One line a file: the digit and the next probable one, or the error."""
    from mnist_pipeline.digits.images.classify import warning

    rows = []
    for one in found:
        if "error" in one:
            rows.append(["-", "", one["error"]])
            continue
        second = sorted(one["scores"], key=one["scores"].get)[-2]
        sure = f"{one['confidence']:.1%} ({names[int(second)]}: {one['scores'][second]:.1%})"
        sure = " ".join(filter(None, [sure, warning(one["typicality"])]))
        rows.append([one["name"], sure, one["path"]])
    return table([noun, "confidence", "file"], [[_shown(text) for text in row] for row in rows])


def _drawn(seen: Sequence["Pixels"]) -> str:
    """Draw inputs of the model side by side, as a terminal has room, two rows of pixels a line."""
    import numpy as np

    from mnist_pipeline.digits.data.shape import width_of

    blocks = " \u2580\u2584\u2588"  # none, upper half, lower half, both
    if not seen or _shown(blocks) != blocks:
        return ""
    width = width_of(seen[0])
    beside = max(1, (shutil.get_terminal_size().columns + 2) // (width + 2))
    groups = []
    for start in range(0, len(seen), beside):
        group = seen[start : start + beside]
        padding = ((0, width % 2), (0, 2))
        ink = np.hstack([np.pad(one.reshape(width, width), padding) for one in group]) > 127
        lines = [
            "".join(blocks[one] for one in upper + 2 * lower).rstrip()
            for upper, lower in zip(ink[::2], ink[1::2], strict=True)
        ]
        groups.append("\n".join(lines).strip("\n"))
    return "\n\n".join(groups)


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
        app = serving.SameOrigin(build_app(served))
        with contextlib.suppress(KeyboardInterrupt):
            click.echo(f"Draw at {serving.url_of('127.0.0.1', listening)} (Ctrl+C ends it)")
            serving.server(app, limit_concurrency=32).run(sockets=[listening])
