"""OpenML's API client: which file mnist_784 version 1 is, and its download. Nothing of its format.

The requests are those of scikit-learn's `fetch_openml` (https://www.openml.org/apis).
"""

import gzip
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mnist_pipeline.digits.errors import SourceError
from mnist_pipeline.digits.sources import transfer
from mnist_pipeline.digits.sources.archive import MAX_BYTES, Archive
from mnist_pipeline.digits.sources.transfer import Progress, redacted

NAME = "mnist_784"
VERSION = 1
FILENAME = f"{NAME}.arff.gz"
_MOST_JSON = 1 << 20
_MOST_URL = 2000


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
        description = Description(data_id, found["url"].strip(), found["md5_checksum"].lower())
        scheme = urlsplit(description.url).scheme
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise SourceError(
            f"{redacted(server)}: what it says of {NAME} lacks what a client needs "
            f"({type(error).__name__}): is it the base URL of an OpenML server?"
        ) from None
    if not re.fullmatch("[0-9a-f]{32}", description.md5):
        raise SourceError(
            f"{redacted(address)}: names an md5 that is none: {description.md5[:40]!r}"
        )
    if scheme not in {"http", "https"} or len(description.url) > _MOST_URL:
        raise SourceError(
            f"{redacted(address)}: names a download that is no http(s) URL: "
            f"{redacted(description.url[:80])}"
        )
    return description


def download(description: Description, progress: Progress = lambda done, total: None) -> Archive:
    """Get the ARFF and keep it compressed: as served if it came as gzip, else compressed here.

    The caller compares `Archive.md5` with `Description.md5` before it uses the archive.

    Raises
    ------
    SourceError
        The transfer failed, or brought more than `MAX_BYTES`.
    """
    answer = transfer.get(
        description.url, {"Accept-Encoding": "gzip"}, most=MAX_BYTES, progress=progress
    )
    if answer.encoding == "identity":
        # mtime 0, so that the same bytes give the same file
        data = gzip.compress(answer.body, compresslevel=6, mtime=0)
    elif answer.encoding in {"gzip", "x-gzip"}:
        data = answer.body
    else:
        raise SourceError(
            f"{redacted(description.url)}: came as {answer.encoding}, which was not asked for"
        )
    return Archive(data, FILENAME)


def _get_json(url: str) -> Any:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    answer = transfer.get(url, headers, most=_MOST_JSON)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise SourceError(
            f"{redacted(url)}: did not answer with JSON: is it an OpenML server?"
        ) from None
