"""OpenML's API client: which file mnist_784 version 1 is, and its download. Nothing of its format.

The requests are those of scikit-learn's `fetch_openml` (https://www.openml.org/apis).
"""

import gzip
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnist_pipeline.digits.archive import CHUNK, MAX_BYTES, Archive
from mnist_pipeline.errors import SourceError

if TYPE_CHECKING:
    import requests

NAME = "mnist_784"
VERSION = 1
CONNECT_SECONDS, READ_SECONDS, RETRIES = 10.0, 60.0, 2
MAX_PAUSE = 30
"""Seconds to wait at the most before an attempt, whatever the server asks for."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total, or None where the server does not say."""


@dataclass(frozen=True)
class Description:
    """What OpenML says of a data set: where its file is, and the MD5 of the (decompressed) ARFF."""

    data_id: int
    url: str
    md5: str


def describe(server: str) -> Description:
    """Ask the API for mnist_784 version 1: the data list first, then the description.

    Raises
    ------
    SourceError
        The server cannot be reached, answers with an error, or with what is not OpenML's JSON.
    """
    listing = f"{server}/api/v1/json/data/list/data_name/{NAME}/limit/2/data_version/{VERSION}"
    try:
        data_id = int(_get_json(listing)["data"]["dataset"][0]["did"])
        found = _get_json(address := f"{server}/api/v1/json/data/{data_id}")["data_set_description"]
        description = Description(data_id, found["url"], found["md5_checksum"].lower())
        scheme = urlsplit(description.url).scheme
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"OpenML's answer about {NAME} from {server} lacks what a client needs ({error!r}): is "
            "MNIST_OPENML_SERVER the base URL of an OpenML server?"
        ) from None
    if not re.fullmatch("[0-9a-f]{32}", description.md5):
        raise SourceError(f"{address} names an md5 that is none: {description.md5[:40]!r}")
    if scheme not in {"http", "https"}:
        raise SourceError(f"{address} names a download that is no http(s) URL: {description.url}")
    return description


def download(description: Description, progress: Progress = lambda done, total: None) -> Archive:
    """Stream the ARFF and keep it compressed: as served if it came as gzip, else compressed here.

    The caller compares `Archive.md5` with `Description.md5` before it uses the archive.

    Raises
    ------
    SourceError
        The transfer failed, ended early, or brought more than `MAX_BYTES`.
    """
    kept = io.BytesIO()
    with _get(description.url, {"Accept-Encoding": "gzip"}) as response:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in {"identity", "gzip", "x-gzip"}:
            raise SourceError(f"{description.url} came as {encoding}, which was not asked for")
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        sink: io.BytesIO | gzip.GzipFile = kept
        if encoding == "identity":
            # mtime 0 and no name, so that the same bytes give the same file
            sink = gzip.GzipFile(filename="", fileobj=kept, mode="wb", compresslevel=6, mtime=0)
        done = 0
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            done += len(chunk)
            if done > MAX_BYTES:
                raise SourceError(f"{description.url} is over {MAX_BYTES:,} bytes: not {NAME}")
            sink.write(chunk)
            progress(done, total)
        if sink is not kept:
            sink.close()
    return Archive(kept.getvalue(), f"{NAME}.arff.gz")


def _get_json(url: str) -> Any:
    with _get(url, {"Accept": "application/json"}) as response:
        return response.json()


@contextmanager
def _get(url: str, headers: dict[str, str]) -> Iterator["requests.Response"]:
    import requests
    import urllib3

    retry = urllib3.Retry(
        RETRIES,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        retry_after_max=MAX_PAUSE,
    )
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
                response.raise_for_status()
                yield response
    except requests.JSONDecodeError:
        raise SourceError(f"{url} did not answer with JSON: is it an OpenML server?") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(
            f"OpenML failed at {url}: {_reason(error)}. Check the network and "
            "MNIST_OPENML_SERVER, or work offline with MNIST_SOURCE=sample."
        ) from error


def _reason(error: BaseException) -> str:
    # requests nests the operating system's own words several exceptions deep
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__
