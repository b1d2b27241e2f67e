"""Transfers over HTTP: bounded in attempts, time and size, with errors for people.

The caller chooses the address and verifies the bytes.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from mnist_pipeline.digits.errors import (
    RefusedError,
    SourceError,
    UnavailableError,
    UnreachableError,
    redacted,
)
from mnist_pipeline.digits.progress import Progress, Throttled, silent
from mnist_pipeline.digits.sources.source import Answer

if TYPE_CHECKING:
    import urllib3

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Without a single byte."""

MOST_SECONDS = 1800.0
"""For the body of one answer, however it trickles."""

ATTEMPTS = 3
FIRST_PAUSE = 0.5
"""Seconds before the second attempt, at the most; doubled before each further one."""

LONGEST_WAIT = 30.0
"""Seconds that a server may ask to wait (Retry-After); if it asks for more, the attempt fails."""

REDIRECTS = 5
_CHUNK = 1 << 18


def get(url: str, headers: Mapping[str, str], *, most: int, progress: Progress = silent) -> Answer:
    """Get what is at an address.

    Timeouts, lost connections, bodies cut short and the answers 5xx and 429 are tried again,
    `ATTEMPTS` times in all, after random pauses that grow, or after what `Retry-After` asks for.

    Raises UnreachableError where no connection came about, UnavailableError where the server failed
    in a way that may pass, RefusedError where it answers with another status, and SourceError where
    it failed in another way that does not pass: more than `most` bytes, a web page.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _once(url, headers, most, progress)
        except UnavailableError as error:
            asked = error.wait_seconds
            if attempt == ATTEMPTS or (asked or 0) > LONGEST_WAIT:
                raise type(error)(f"{error} ({attempt} attempts)", asked) from None
        pause = FIRST_PAUSE * 2 ** (attempt - 1)
        # not all clients of a server that came back at the same moment
        time.sleep((asked or 0) + random.uniform(pause / 2, pause))
    raise AssertionError("unreachable")


def _once(url: str, headers: Mapping[str, str], most: int, progress: Progress) -> Answer:
    from urllib3 import exceptions

    at, allowed = url, {"http", "https"}
    try:
        for _ in range(REDIRECTS + 1):
            with _asked(at, headers) as response:
                if not (location := response.get_redirect_location()):
                    _expect_data(url, response)
                    return _received(url, response, most, progress)
            if urlsplit(at).scheme == "https":
                allowed = {"https"}
            at = urljoin(at, location)
            if urlsplit(at).scheme not in allowed:
                raise SourceError(f"{redacted(url)}: leads to {redacted(at)[:200]}")
        raise SourceError(f"{redacted(url)}: leads on and on, after {REDIRECTS} redirects")
    # not `from error`: urllib3 writes whole URLs, with their secrets, into its messages
    except (exceptions.SSLError, ValueError) as error:  # ValueError: it is no address
        raise SourceError(f"{redacted(url)}: {_reason(error)}") from None
    except exceptions.HTTPError as error:
        never = exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyError
        kind = UnreachableError if isinstance(error, never) else UnavailableError
        raise kind(f"{redacted(url)}: {_reason(error)}") from None


@contextlib.contextmanager
def _asked(url: str, headers: Mapping[str, str]) -> "Iterator[urllib3.BaseHTTPResponse]":
    """Ask one server, or the proxy that the environment names; the body is not read yet."""
    import urllib3

    plain, auth = _split(url)
    proxies, manager = getproxies(), urllib3.PoolManager()
    proxy = proxies.get(urlsplit(plain).scheme) or proxies.get("all")
    if proxy and not proxy_bypass(urlsplit(plain).netloc):
        at, given = _split(proxy if "://" in proxy else f"http://{proxy}")
        headers_for_it = urllib3.make_headers(proxy_basic_auth=given)
        manager = urllib3.ProxyManager(at, proxy_headers=headers_for_it)
    response = manager.request(
        "GET",
        plain,
        headers={**urllib3.make_headers(basic_auth=auth), **headers},
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=False,
        preload_content=False,
    )
    with manager, contextlib.closing(response):
        yield response


def _split(url: str) -> tuple[str, str | None]:
    """Return an address without user and password, and these."""
    import urllib3

    parts = urllib3.util.parse_url(url)
    return parts._replace(auth=None).url, unquote(parts.auth) if parts.auth else None


def _expect_data(url: str, response: "urllib3.BaseHTTPResponse") -> None:
    import urllib3

    status = response.status
    if status == HTTPStatus.OK:
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise SourceError(f"{redacted(url)}: answers with a web page, not with data")
        return
    # in our words: the server's own could hold anything
    known = {one.value: one.phrase for one in HTTPStatus}
    answer = f"{redacted(url)}: answers {status} {known.get(status, '')}".rstrip()
    if not (status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS):
        raise RefusedError(answer)
    wait = None
    if asked := response.headers.get("Retry-After"):
        with contextlib.suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            wait = float(urllib3.Retry().parse_retry_after(asked))
            answer += f" and asks to wait {wait:.0f} s"
    raise UnavailableError(answer, wait)


def _received(
    url: str, response: "urllib3.BaseHTTPResponse", most: int, progress: Progress
) -> Answer:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() and len(length) < 20 else None
    too_large = SourceError(f"{redacted(url)}: sends more than {most:,} bytes")
    if total is not None and total > most:
        raise too_large
    body, deadline, throttled = bytearray(), time.monotonic() + MOST_SECONDS, Throttled(progress)
    of = f" of {total / 1e6:.1f}" if total else ""
    # not `read`, which waits for all that it asked for as long as a byte comes now and then
    while chunk := response.read1(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > most:
            raise too_large
        if time.monotonic() > deadline:
            raise UnavailableError(f"{redacted(url)}: not done within {MOST_SECONDS:.0f} s")
        if len(body) != total:
            throttled(f"downloaded {len(body) / 1e6:.1f}{of} MB")
    progress(f"downloaded {len(body) / 1e6:.1f}{of} MB")
    return Answer(bytes(body), response.headers.get("Content-Encoding", "identity").lower())


def _reason(error: BaseException) -> str:
    # urllib3 nests the operating system's own words several exceptions deep
    while inner := error.__cause__ or error.__context__:
        error = inner
    return redacted(str(error))[:500] or type(error).__name__
