"""The drawing page: a small local web application that answers with the champion.

What is refused before it comes to an answer is in `limits`; the page itself lies beside, as files.
"""

import asyncio
import base64
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

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import width_of
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images.classify import read_digit
from mnist_pipeline.digits.images.neighbours import nearest
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental.errors import PipelineError
from mnist_pipeline.web.limits import BodyError, OwnPage, body

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

    def answer(self, picture: bytes) -> dict[str, Any]:
        """Read a picture; return what the page shows of it.

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
        return {
            "digit": reading.digit,
            "confidence": reading.confidence,
            "scores": reading.probabilities.tolist(),
            "width": width_of(reading.seen),
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


def build_app(served: Served, port: int) -> Starlette:
    """Compose the application.

    Parameters
    ----------
    served : Served
    port : int
        Where it will listen on the loopback: pages of other origins get no answer.
    """
    templates = Jinja2Templates(_HERE)
    alone = asyncio.Lock()

    def page(request: Request) -> Response:
        model = served.model()
        return templates.TemplateResponse(
            request,
            "page.html",
            {
                "version": model.data_version,
                "validated": model.validated,
                "shape": registry.by_name(model.origin.source).shape,
            },
        )

    async def read(request: Request) -> Response:
        try:
            picture = await body(request)
        except BodyError as error:
            return _error(str(error), error.status)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        try:
            # one at a time: a picture can take much memory
            async with alone:
                return JSONResponse(await run_in_threadpool(served.answer, picture))
        except PictureError as error:
            return _error(f"The picture {error}.", 422)

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


def _text(pixels: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()


def _error(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message}, status)
