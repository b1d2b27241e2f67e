"""The drawing page: a small local web application that answers with the champion."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from mnist_pipeline.assets import champion_history
from mnist_pipeline.digits.data.shape import width_of
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images.classify import nearest, read_digit, warning
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental.errors import PipelineError
from mnist_pipeline.incremental.session import Session
from mnist_pipeline.web.serving import SameOrigin

NEIGHBOURS = 8
SEARCHED = 70_000
"""Training digits among which the nearest ones are searched, at most."""

MOST_BYTES = 10_000_000
"""Of a picture that is drawn, dropped or pasted."""

_HEADERS = {
    # nothing is loaded from elsewhere, nothing is sent elsewhere, no other page frames this one
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_HERE = Path(__file__).parent


class Served:
    """What answers: the champion, loaded again when it is another model, and training digits.

    Its methods raise PipelineError where these cannot be opened.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._model = self._load()
        digits = champion_history.training_digits(session.pipeline.engine, session.instance)
        self._train = digits[:SEARCHED]

    def _load(self) -> TrainedModel:
        return champion_history.load_champion(self._session.instance, self._session.pipeline.store)

    def model(self) -> TrainedModel:
        """Return the current champion."""
        now = champion_history.champion_now(self._session.instance).model_version
        if now != self._model.data_version:
            self._model = self._load()
        return self._model

    def answer(self, picture: bytes) -> dict[str, Any]:
        """Classify a picture; return what the page shows. Raises PictureError as `read_digit`."""
        model = self.model()
        reading = read_digit(model, picture)
        return {
            "digit": reading.digit,
            "confidence": reading.confidence,
            "typicality": reading.typicality,
            "warning": warning(reading.typicality),
            "scores": reading.probabilities.tolist(),
            "width": width_of(reading.seen),
            "seen": _text(reading.seen),
            "nearest": [
                {
                    "label": int(self._train.labels[place]),
                    "row_id": int(self._train.row_id[place]),
                    "pixels": _text(self._train.pixels[place]),
                }
                for place in nearest(self._train, reading.seen, NEIGHBOURS)
            ],
            "model": model.data_version,
        }


def build_app(served: Served) -> SameOrigin:
    """Compose the application."""
    templates = Jinja2Templates(_HERE)
    one_at_a_time = asyncio.Lock()  # a picture can take much memory

    def page(request: Request) -> Response:
        model = served.model()
        shape = registry.by_name(model.origin.source).shape
        values = {"version": model.data_version, "validated": model.validated, "shape": shape}
        return templates.TemplateResponse(request, "page.html", values)

    async def read(request: Request) -> Response:
        picture = await _body(request)
        async with one_at_a_time:
            return JSONResponse(await run_in_threadpool(served.answer, picture))

    def failed(request: Request, error: Exception) -> Response:
        match error:
            case HTTPException():
                message, status = error.detail, error.status_code
            case PictureError():
                message, status = f"The picture {error}", 422
            case _:
                message, status = str(error), 503
        return JSONResponse({"error": f"{message.rstrip('.')}."}, status)

    app = Starlette(
        exception_handlers={PipelineError: failed, HTTPException: failed},
        routes=[
            Route("/", page),
            Route("/read", read, methods=["POST"]),
            Mount("/files", StaticFiles(directory=_HERE / "files")),
        ],
    )
    return SameOrigin(app, _HEADERS)


async def _body(request: Request) -> bytes:
    """Read the body of a request, up to the size that is allowed."""
    too_large = HTTPException(413, f"The picture is larger than {MOST_BYTES // 10**6} MB.")
    if int(request.headers.get("content-length", 0)) > MOST_BYTES:
        raise too_large
    received = bytearray()
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > MOST_BYTES:
                raise too_large
    except ClientDisconnect:
        raise HTTPException(400) from None
    return bytes(received)


def _text(pixels: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
