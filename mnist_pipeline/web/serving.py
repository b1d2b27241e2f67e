"""How the pages and the Dagster UI are served: to no page of another origin."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mnist_pipeline.incremental.errors import SettingsError

REQUEST_SECONDS = 5.0
"""Within which a request must have come whole."""

_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What forbids pages of other origins to show an answer."""


@dataclass(frozen=True)
class SameOrigin:
    """An ASGI middleware that refuses requests which pages of other origins sent."""

    app: ASGIApp
    names: Collection[str] = ("localhost",)
    """Under which it answers, and under every IP address: no foreign name leads to one."""
    posted: tuple[str, ...] = ()
    """What the paths begin with that take a query, which may change something, only by POST."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            # a second policy restricts further
            answer = _with_headers(send, _HEADERS, MutableHeaders.append)
            await (self._refusal(scope) or self.app)(scope, receive, answer)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to a request that is refused, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_host(host):
            text = "No answer under this name: use localhost or an IP address (SECURITY.md)."
            return PlainTextResponse(text, 400)
        # a websocket's scheme is ws or wss
        own = f"{scope['scheme'].replace('ws', 'http')}://{host}".lower()
        site = headers.get("sec-fetch-site", "none")  # none: typed, or a bookmark
        is_own = headers.get("origin", own) == own and site in {"same-origin", "none"}
        # to follow a link of another page only shows a page
        link = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        is_get = scope.get("method") == "GET"
        if not is_own and not (is_get and link.items() <= dict(headers).items()):
            return PlainTextResponse("Pages of other origins get no answer.", 403)
        # not only these very paths: Starlette takes one with a line feed at its end for the same
        if is_get and scope["query_string"] and scope["path"].startswith(self.posted):
            return PlainTextResponse("A query is taken only by POST.", 405)
        return None

    def _is_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:  # no IP address, or no host at all
            return False


@dataclass(frozen=True)
class WithHeaders:
    """An ASGI middleware that adds headers to the answers that do not have them."""

    app: ASGIApp
    headers: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        answer = _with_headers(send, self.headers, MutableHeaders.setdefault)
        await self.app(scope, receive, answer)


def _with_headers(
    send: Send, headers: Mapping[str, str], add: Callable[[MutableHeaders, str, str], object]
) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            for name, value in headers.items():
                add(MutableHeaders(scope=message), name, value)
        await send(message)

    return send_with_headers


def mount(routes: list[BaseRoute], path: str, app: ASGIApp) -> None:
    """Put an application beneath a path, before the routes of another."""
    routes[:0] = [Mount(path, app), Route(path, RedirectResponse(f"{path}/"))]


class _InTime(HttpToolsProtocol):
    """HTTP over a connection that is closed where a request does not come whole in time.

    uvicorn itself limits only how long a connection is idle after an answer.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_timer()

    def shutdown(self) -> None:
        super().shutdown()
        if self._timer:  # the server ends, and does not wait for the rest
            self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; 0 is any port that is free. Raises SettingsError."""
    try:
        # an empty host would be every address
        found = socket.getaddrinfo(host or "(empty)", port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"--host {host!r} is not an address to listen on: {error}") from None
    family, _, _, _, address = found[0]
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        why = error.strerror
        raise SettingsError(
            f"--port {port} cannot be used on {host}: {why}. Choose another."
        ) from None


def url_of(host: str, listening: socket.socket) -> str:
    """Return the address of a page, which begins with the host as it was given."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}/"


def server(app: ASGIApp, **options: Any) -> uvicorn.Server:
    """Return a server whose `run` ends with SIGINT or SIGTERM, as KeyboardInterrupt."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="error",
            server_header=False,
            http=_InTime,
            timeout_graceful_shutdown=2,
            **options,
        )
    )
