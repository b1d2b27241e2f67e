"""The drawing page: a small local web application that answers with the champion.

What is refused before it comes to an answer is in `limits`; the page itself lies beside, as files.
"""

import asyncio
import base64
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.neighbours import nearest
from mnist_pipeline.digits.pictures import suffix
from mnist_pipeline.digits.reading import Reading, read_digit
from mnist_pipeline.drawing.limits import BodyError, OwnPage, Rate, body
from mnist_pipeline.incremental.errors import PipelineError

NEIGHBOURS = 8
SEARCHED = 70_000
"""Training digits among which they are looked for, at most."""

HOSTS = ["127.0.0.1", "localhost"]

_HERE = Path(__file__).parent


class Served:
    """What answers: the model in service, read anew when another one is, and training digits.

    Parameters
    ----------
    version : callable
        Returns the data version of the model in service now.
    load : callable
        Opens it.
    train : callable
        Opens the training digits, among which the nearest ones are looked for.
    """

    def __init__(
        self,
        version: Callable[[], str | None],
        load: Callable[[], TrainedModel],
        train: Callable[[], Digits],
    ) -> None:
        self._version = version
        self._load = load
        self._known = version(), load()
        self._train = train()[:SEARCHED]

    def model(self) -> TrainedModel:
        """Return the champion of now.

        Raises
        ------
        PipelineError
            It cannot be opened.
        """
        version, model = self._known
        if (now := self._version()) != version:
            model = self._load()
            self._known = now, model
        return model

    def answer(self, picture: bytes) -> tuple[Reading, dict[str, Any]]:
        """Read a picture; return what was read, also as the page wants it.

        Raises
        ------
        PictureError
            The bytes are no picture, or it shows no single digit.
        PipelineError
            The champion of now cannot be opened.
        """
        model = self.model()
        reading = read_digit(model, picture)
        near = nearest(self._train, reading.seen, NEIGHBOURS)
        return reading, {
            "digit": reading.digit,
            "confidence": reading.confidence,
            "scores": reading.probabilities.tolist(),
            "seen": _text(reading.seen),
            "nearest": [
                {
                    "label": int(self._train.labels[place]),
                    "row_id": int(self._train.row_id[place]),
                    "pixels": _text(self._train.pixels[place]),
                }
                for place in near
            ],
            "model": model.data_version,
        }


def build_app(served: Served, port: int, keep: Path | None = None, rate: float = 10.0) -> Starlette:
    """Compose the application.

    Parameters
    ----------
    served : Served
    port : int
        Where it will listen on the loopback: pages of other origins get no answer.
    keep : Path, optional
        Folder in which each picture that was answered is kept.
    rate : float
        Pictures a second that are answered in the long run.
    """
    templates = Jinja2Templates(_HERE)
    limit, alone = Rate(rate), asyncio.Lock()

    def page(request: Request) -> Response:
        model = served.model()
        return templates.TemplateResponse(
            request,
            "page.html",
            {"version": model.data_version, "validated": model.validated, "keep": keep},
        )

    async def read(request: Request) -> Response:
        if wait := limit.wait():
            headers = {"Retry-After": str(wait)}
            return _error("too many pictures at once: wait a second", 429, headers)
        try:
            picture = await body(request)
        except BodyError as error:
            return _error(str(error), error.status)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        try:
            # one at a time: a picture can take much memory
            async with alone:
                reading, answer = await run_in_threadpool(served.answer, picture)
        except PictureError as error:
            return _error(f"The picture {error}.", 422)
        if keep:
            try:
                await run_in_threadpool(_keep, keep, picture, reading)
            except OSError as error:
                why = f"This is a {reading.digit}, but it cannot be kept in {keep}: "
                return _error(f"{why}{error.strerror}.", 500)
        return JSONResponse(answer)

    async def unable(request: Request, error: Exception) -> Response:
        return _error(f"{str(error).rstrip('.')}.", 503)

    return Starlette(
        exception_handlers={PipelineError: unable},
        routes=[
            Route("/", page),
            Route("/read", read, methods=["POST"]),
            Mount("/files", StaticFiles(directory=_HERE / "files")),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            # browsers leave the port of http out
            Middleware(
                OwnPage,
                origins={f"http://{host}{'' if port == 80 else f':{port}'}" for host in HOSTS},
            ),
        ],
    )


def _keep(folder: Path, picture: bytes, reading: Reading) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(picture).hexdigest()[:16]
    final = folder / f"{reading.digit}-{digest}{suffix(picture)}"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as beside:
        file = Path(beside) / final.name
        with file.open("wb") as opened:
            opened.write(picture)
            opened.flush()
            os.fsync(opened.fileno())
        file.replace(final)


def _text(pixels: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()


def _error(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)
