"""What the drawing page's application refuses, and what it says with every answer."""

import asyncio
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 10_000_000
"""Of a picture that is drawn, dropped or pasted."""

_BODY_SECONDS = 10.0

_HEADERS = {
    # nothing is loaded from elsewhere, nothing is sent elsewhere, nobody frames the page
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class BodyError(Exception):
    """A request's body has more than `MOST_BYTES`, or takes too long to come."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def body(request: Request) -> bytes:
    """Read the body of a request, and no more of it than is allowed.

    Raises
    ------
    BodyError
        It is longer, whatever its Content-Length says, or takes too long.
    """
    too_large = BodyError(f"The picture is larger than {MOST_BYTES // 10**6} MB.", 413)
    if int(request.headers.get("content-length", 0)) > MOST_BYTES:
        raise too_large
    received = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                received += chunk
                if len(received) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise BodyError("The picture did not come in time.", 408) from None
    return bytes(received)


class OwnPage:
    """Refuses requests that a page of another origin sent; sets headers that protect this one."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app = self._app
        origin = Headers(scope=scope).get("origin")
        if origin is not None and origin not in self._origins:
            app = PlainTextResponse("This page answers no other.", 403)
        await app(scope, receive, send_with_headers)
