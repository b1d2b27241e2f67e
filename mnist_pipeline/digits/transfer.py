"""Transfers over HTTP: bounded in attempts, time and size, with errors for people.

Which address is asked for what, and whether the bytes are the right ones, is for whoever asks.
"""

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from mnist_pipeline.digits.errors import (
    RefusedError,
    SourceError,
    UnavailableError,
    UnreachableError,
)

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""Without a single byte."""

MOST_SECONDS = 1800.0
"""For the body of one answer, however it trickles."""

ATTEMPTS = 3
FIRST_PAUSE = 0.5
"""Seconds before the second attempt, at the most; doubled before each further one."""

LONGEST_WAIT = 30.0
"""Seconds that a server may ask to wait (Retry-After); asked for more, nobody waits."""

REDIRECTS = 5
_CHUNK = 1 << 18

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total, or None where the server does not say."""


@dataclass(frozen=True)
class Answer:
    """What a server sent: the body as it came, and how its headers call its encoding."""

    body: bytes
    encoding: str


def get(
    url: str,
    headers: Mapping[str, str],
    *,
    most: int,
    progress: Progress = lambda done, total: None,
) -> Answer:
    """Get what is at an address.

    Timeouts, lost connections, bodies cut short and the answers 5xx and 429 are tried again,
    `ATTEMPTS` times in all, after random pauses that grow, or after what `Retry-After` asks for.

    Parameters
    ----------
    url : str
    headers : mapping
    most : int
        Bytes that the body may have.
    progress : callable

    Raises
    ------
    UnreachableError
        No connection came about.
    UnavailableError
        The server failed in a way that may pass.
    RefusedError
        It answers with another status.
    SourceError
        It failed in another way that does not pass: more than `most` bytes, a web page.
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


def redacted(text: str) -> str:
    """Return a text without what its URLs may hold of secrets: user, password and query.

    What does not print is escaped: others may have written it.
    """
    text = re.sub(r"[^\x20-\x7e]", lambda found: ascii(found[0])[1:-1], text)
    text = re.sub(r"(?<=://)[^/?#]*@", "***@", text)
    return re.sub(r"(://[^\s?]{0,500}\?)\S+", r"\1***", text)


def _once(url: str, headers: Mapping[str, str], most: int, progress: Progress) -> Answer:
    import requests
    import urllib3

    try:
        with requests.Session() as session:
            # requests would read whole what comes with a redirect
            setattr(session, "get_redirect_target", lambda response: None)  # noqa: B010
            at = url
            for _ in range(REDIRECTS + 1):
                timeout = (CONNECT_SECONDS, READ_SECONDS)
                with session.get(at, headers=headers, stream=True, timeout=timeout) as response:
                    if not response.is_redirect:
                        _expect_data(url, response)
                        return _received(url, response, most, progress)
                    at = urljoin(at, response.headers["Location"])
                    if urlsplit(at).scheme not in {"http", "https"}:
                        raise SourceError(f"{redacted(url)}: leads to {redacted(at)[:200]}")
            raise SourceError(f"{redacted(url)}: leads on and on, after {REDIRECTS} redirects")
    # not `from error`: requests writes whole URLs, with their secrets, into its messages
    except requests.exceptions.SSLError as error:
        raise SourceError(f"{redacted(url)}: {_reason(error)}") from None
    except requests.exceptions.ConnectionError as error:
        raise _lost(url, error) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.HTTPError) as error:
        raise UnavailableError(f"{redacted(url)}: {_reason(error)}") from None
    # of what is no address, wherever it leads
    except (requests.exceptions.RequestException, ValueError) as error:
        raise SourceError(f"{redacted(url)}: {_reason(error)}") from None


def _expect_data(url: str, response: "requests.Response") -> None:
    import urllib3

    status = response.status_code
    if status == HTTPStatus.OK:
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise SourceError(f"{redacted(url)}: answers with a web page, not with data")
        return
    # in our words: the server's own could hold anything
    known = {one.value: one.phrase for one in HTTPStatus}
    said = f"{redacted(url)}: answers {status} {known.get(status, '')}".rstrip()
    if not (status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS):
        raise RefusedError(said)
    wait = None
    if asked := response.headers.get("Retry-After"):
        with contextlib.suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            wait = float(urllib3.Retry().parse_retry_after(asked))
            said += f" and asks to wait {wait:.0f} s"
    raise UnavailableError(said, wait)


def _received(url: str, response: "requests.Response", most: int, progress: Progress) -> Answer:
    import urllib3

    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() and len(length) < 20 else None
    too_large = SourceError(f"{redacted(url)}: sends more than {most:,} bytes")
    if total is not None and total > most:
        raise too_large
    late = threading.Event()

    def give_up() -> None:
        late.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            response.raw.shutdown()

    # a read waits for all that it asked for, as long as a byte comes now and then
    alarm = threading.Timer(MOST_SECONDS, give_up)
    alarm.daemon = True
    alarm.start()
    body = bytearray()
    try:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > most:
                raise too_large
            progress(len(body), total)
    except urllib3.exceptions.HTTPError:
        if not late.is_set():
            raise
    finally:
        alarm.cancel()
    if late.is_set():
        raise UnavailableError(f"{redacted(url)}: not done within {MOST_SECONDS:.0f} s")
    return Answer(bytes(body), response.headers.get("Content-Encoding", "identity").lower())


def _lost(url: str, error: Exception) -> UnavailableError:
    """Tell a connection that broke from one that never was."""
    import urllib3

    inner: BaseException | None = error
    while inner:
        if isinstance(
            inner,
            urllib3.exceptions.NewConnectionError
            | urllib3.exceptions.ConnectTimeoutError
            | urllib3.exceptions.ProxyError,
        ):
            return UnreachableError(f"{redacted(url)}: {_reason(error)}")
        reason = getattr(inner, "reason", None) or next(
            (one for one in inner.args if isinstance(one, BaseException)), None
        )
        inner = reason if isinstance(reason, BaseException) else None
    return UnavailableError(f"{redacted(url)}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    # requests nests the operating system's own words several exceptions deep
    while inner := error.__cause__ or error.__context__:
        error = inner
    return redacted(str(error))[:500] or type(error).__name__
