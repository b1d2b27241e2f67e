"""The pages: draw a digit, the report, the champion and its decisions, and the API that predicts.

All links are relative: the application works beneath any path.
"""

import asyncio
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from mnist_pipeline.assets import champion_history
from mnist_pipeline.digits.data.shape import width_of
from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images.classify import nearest, read_digit, read_pixels, warning
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.report import utc
from mnist_pipeline.digits.sources import registry
from mnist_pipeline.incremental.errors import PipelineError
from mnist_pipeline.incremental.session import Session
from mnist_pipeline.web.serving import WithHeaders

SEARCHED = 70_000
"""Training digits among which the nearest ones are searched, at most."""

MOST_NEAREST = 100
"""Of them, in one answer."""

MOST_BYTES = 10_000_000
"""Of what is to be predicted: a picture, or pixels as JSON."""

JSON = "application/json"

_DECISIONS = 100

_HEADERS = {
    # nothing is loaded from elsewhere, nothing is sent elsewhere
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_REPORT = {
    # one file with all that it needs; its scripts are of no origin
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; sandbox allow-scripts"
    ),
}

_HERE = Path(__file__).parent


class Served:
    """The current champion and the newest digits, each opened when it is first needed.

    The methods raise PipelineError where one cannot be.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        instance, engine = session.instance, session.pipeline.engine
        # each is opened again where its version is another
        self._champion = lru_cache(1)(
            lambda version: champion_history.load_champion(instance, engine.store)
        )
        self._train = lru_cache(1)(
            lambda sha256: champion_history.training_digits(engine, instance)[:SEARCHED]
        )

    def model(self) -> TrainedModel:
        """Return the current champion."""
        champion = champion_history.champion_now(self.session.instance)
        return self._champion(champion.model_version)

    def answer(self, body: bytes, kind: str, count: int) -> dict[str, Any]:
        """Classify a picture or, as JSON, its pixels; with the nearest digits where it is asked.

        Raises PictureError and HTTPException.
        """
        model = self.model()
        reading = read_pixels(model, _pixels(body)) if kind == JSON else read_digit(model, body)
        if not count:
            return reading.document
        file = self.session.newest_file("train_set")
        train = self._train(file and file.sha256)
        return {
            **reading.document,
            "warning": warning(reading.typicality),
            "pixels": _rows(reading.seen),
            "nearest": [
                {
                    "label": int(train.labels[place]),
                    "row_id": int(train.row_id[place]),
                    "pixels": _rows(train.pixels[place]),
                }
                for place in nearest(train, reading.seen, count)
            ],
            "model": model.data_version,
        }


def build_app(served: Served) -> WithHeaders:
    """Compose the application."""
    templates = Jinja2Templates(_HERE / "pages")
    templates.env.filters["utc"] = utc
    one_at_a_time = asyncio.Lock()  # a picture can take much memory

    def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
        return templates.TemplateResponse(request, name, values, status)

    def of_champion() -> dict[str, Any]:
        model = served.model()
        source = registry.by_name(model.origin.source)
        return {"model": model, "source": source, "shape": source.shape}

    def draw(request: Request) -> Response:
        return page(request, "draw.html", **of_champion())

    def report(request: Request) -> Response:
        if (file := served.session.newest_file("report")) is None:
            raise HTTPException(404, "there is no report yet: run `mnist-pipeline refresh`")
        return HTMLResponse(served.session.pipeline.store.read(file), headers=_REPORT)

    def champion(request: Request) -> Response:
        past = champion_history.decisions(served.session.instance, _DECISIONS)
        try:
            return page(request, "champion.html", past=past, **of_champion())
        except PipelineError as error:
            return page(request, "champion.html", 503, past=past, error=error)

    def api(request: Request) -> Response:
        return page(request, "api.html", **of_champion())

    def description(request: Request) -> Response:
        answer = page(request, "openapi.json", most_nearest=MOST_NEAREST, **of_champion())
        return Response(answer.body, media_type=JSON)

    async def predict(request: Request) -> Response:
        kind, count = _kind(request), _count(request)
        body = await _body(request)
        async with one_at_a_time:
            return JSONResponse(await run_in_threadpool(served.answer, body, kind, count))

    def failed(request: Request, error: Exception) -> Response:
        match error:
            case HTTPException():
                message, status = error.detail, error.status_code
            case PictureError():
                message, status = f"the picture {error}", 422
            case _:
                message, status = str(error), 503
        message = f"{message[:1].upper()}{message[1:].rstrip('.')}."
        if "text/html" in request.headers.get("accept", ""):
            return page(request, "message.html", status, message=message)
        return JSONResponse({"error": message}, status)

    app = Starlette(
        exception_handlers={PipelineError: failed, HTTPException: failed},
        routes=[
            Route("/", draw),
            Route("/report", report),
            Route("/champion", champion),
            Route("/api", api),
            Route("/api/openapi.json", description),
            Route("/api/predict", predict, methods=["POST"]),
            Mount("/files", StaticFiles(directory=_HERE / "files")),
        ],
    )
    return WithHeaders(app, _HEADERS)


def _kind(request: Request) -> str:
    """Return the media type of a request's body."""
    kind = request.headers.get("content-type", "application/octet-stream")
    kind = kind.partition(";")[0].strip().lower()
    if kind not in {JSON, "application/octet-stream"} and not kind.startswith("image/"):
        raise HTTPException(
            415, f"{kind!r} is not read: send image/*, application/octet-stream or {JSON}"
        )
    return kind


def _count(request: Request) -> int:
    """Return how many nearest training digits a request asks for."""
    given = request.query_params.get("nearest", "0")
    if not (given.isascii() and given.isdigit() and int(given[:9]) <= MOST_NEAREST):
        raise HTTPException(400, f"nearest={given!r} is not a number from 0 to {MOST_NEAREST}")
    return int(given)


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


def _pixels(body: bytes) -> object:
    try:
        return json.loads(body)["pixels"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise HTTPException(
            422, 'the body is not JSON such as {"pixels": [[0, ...], ...]}'
        ) from None


def _rows(pixels: npt.NDArray[np.uint8]) -> list[list[int]]:
    rows: list[list[int]] = pixels.reshape(-1, width_of(pixels)).tolist()
    return rows
