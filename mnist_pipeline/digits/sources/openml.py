"""The source `openml`: all of MNIST from OpenML or, where that fails, from a public mirror.

`acquire` gets any other data set of OpenML too. The requests are those of scikit-learn's
`fetch_openml` (https://www.openml.org/apis). A mirror is the URL of a folder with the four original
IDX files, gzipped.
"""

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mnist_pipeline.digits.data.table import IDX_MD5
from mnist_pipeline.digits.errors import (
    RefusedError,
    SourceError,
    UnavailableError,
    UnreachableError,
    redacted,
)
from mnist_pipeline.digits.sources.archive import MAX_BYTES, Archive, checksum
from mnist_pipeline.digits.sources.source import Access, Acquired, Card, Source
from mnist_pipeline.incremental.check import CheckResult

NAME = "mnist_784"
VERSION = 1
FILENAME = f"{NAME}.arff.gz"
IDX_FILENAME = "mnist.idx.gz"
_MOST_JSON = 1 << 20
_MOST_URL = 2000

PUBLIC = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""The mirrors that PyTorch and TensorFlow users get the IDX files from."""

MNIST = (
    "MNIST by Y. LeCun, C. Cortes and C. J. C. Burges, from NIST\N{RIGHT SINGLE QUOTATION MARK}s "
    "Special Databases 1 and 3: written by employees of the US Census Bureau and by high school "
    "students, around 1990."
)

CARD = Card(
    "MNIST",
    f"{MNIST} As OpenML serves it, data set 554 (mnist_784, version 1), listed as public.",
    "MNIST is commonly given as CC BY-SA 3.0.",
    creators=("Yann LeCun", "Corinna Cortes", "Christopher J. C. Burges"),
    url="https://www.openml.org/d/554",
    licence_url="https://creativecommons.org/licenses/by-sa/3.0/",
    published="2014-09-29",
)


class OpenML(Source):
    """OpenML's `mnist_784`, version 1, and its mirrors."""

    name = "openml"
    files = (FILENAME, IDX_FILENAME)
    floor = 0.85
    card = CARD
    promises_mnist = True

    def acquire(self, access: Access) -> Acquired:
        """Get all digits of mnist_784 from OpenML or, where that fails, from a mirror.

        Raises as the function `acquire`.
        """
        return acquire(access, NAME, VERSION, access.mirrors)


def acquire(access: Access, name: str, version: int, mirrors: Sequence[str] = ()) -> Acquired:
    """Get a data set of OpenML, as `<name>.arff.gz`, or, where OpenML fails, MNIST from a mirror.

    An earlier archive is used while OpenML names its MD5. It is also used while OpenML does
    not answer: at once if there is no connection, else if every mirror fails.

    Raises SourceError where there are no digits: UnavailableError if something of what was tried
    failed in a way that may pass, at the earliest after `wait_seconds`.
    """
    errors: list[SourceError] = []
    description = refused = kept = None
    try:
        description = describe(access, name, version)
        acquired = _as_described(description, access)
        if acquired.checksum.passed:
            return acquired
        refused = acquired
        errors.append(SourceError(f"{acquired.origin}: {acquired.checksum.description}"))
    except SourceError as error:
        errors.append(error)
        # a refusal is an answer: the earlier archive may not be current
        if description is None and not isinstance(error, RefusedError):
            kept = access.newest()
        if kept and isinstance(error, UnreachableError):
            return _kept(kept, access, errors)
    for mirror in mirrors:
        access.report(f"{errors[-1]}. Trying {redacted(mirror)}")
        try:
            return replace(from_mirror(mirror, access), failed=_texts(errors))
        except SourceError as error:
            errors.append(error)
    if refused:
        tried = _texts(errors)
        failed = replace(refused.checksum, description="; ".join(tried))
        return replace(refused, checksum=failed, failed=tried)
    if kept:
        return _kept(kept, access, errors)
    raise _failed(errors, mirrors)


@dataclass(frozen=True)
class Description:
    """OpenML's description of a data set: where its file is, and the decompressed ARFF's MD5.

    `filename` is the name that the file is kept under.
    """

    url: str
    md5: str
    filename: str


def describe(access: Access, name: str = NAME, version: int = VERSION) -> Description:
    """Ask the API for a data set, by default mnist_784: the data list, then the description.

    Raises SourceError where the server cannot be reached, or answers with an error or with what is
    not OpenML's JSON.
    """
    server = access.server
    listing = f"{server}/api/v1/json/data/list/data_name/{name}/limit/2/data_version/{version}"
    try:
        data_id = int(_get_json(listing, access)["data"]["dataset"][0]["did"])
        address = f"{server}/api/v1/json/data/{data_id}"
        found = _get_json(address, access)["data_set_description"]
        url, md5 = found["url"].strip(), found["md5_checksum"].lower()
        description = Description(url, md5, f"{name}.arff.gz")
        scheme = urlsplit(description.url).scheme
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise SourceError(
            f"{redacted(server)}: its description of {name} lacks what a client needs "
            f"({type(error).__name__}): is it the base URL of an OpenML server?"
        ) from None
    if not re.fullmatch("[0-9a-f]{32}", description.md5):
        raise SourceError(f"{redacted(address)}: names an invalid md5: {description.md5[:40]!r}")
    if scheme not in {"http", "https"} or len(description.url) > _MOST_URL:
        raise SourceError(
            f"{redacted(address)}: names a download that is not an http(s) URL: "
            f"{redacted(description.url[:80])}"
        )
    return description


def download(description: Description, access: Access) -> Archive:
    """Get the ARFF and keep it compressed: as served if it came as gzip, else compressed here.

    Raises SourceError where the transfer failed, or brought more than `MAX_BYTES`.
    """
    answer = access.get(
        description.url, {"Accept-Encoding": "gzip"}, most=MAX_BYTES, progress=access.report
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
    return Archive(data, description.filename)


def from_mirror(mirror: str, access: Access) -> Acquired:
    """Get the digits from a mirror, byte for byte as it serves them, and prove that they are MNIST.

    Raises SourceError where the transfer failed, brought more than `MAX_BYTES`, or something else
    than MNIST's own four files.
    """
    parts = []
    for name, md5 in IDX_MD5.items():
        url = f"{mirror}/{name}.gz"
        part, result = _verified(partial(_part, url, access), md5, access)
        if not result.passed:
            raise SourceError(f"{redacted(url)}: {result.description}")
        parts.append(part.data)
    archive = Archive(b"".join(parts), IDX_FILENAME)
    description = "its four IDX files have the md5 sums of MNIST's"
    proven = CheckResult("checksum", True, description, {"md5": archive.data_version})
    return Acquired(archive, redacted(mirror), proven, downloaded=True)


def _part(url: str, access: Access) -> Archive:
    as_is = {"Accept-Encoding": "identity"}
    body = access.get(url, as_is, most=MAX_BYTES, progress=access.report).body
    return Archive(body, url.rpartition("/")[2])


def _get_json(url: str, access: Access) -> Any:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    answer = access.get(url, headers, most=_MOST_JSON)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise SourceError(
            f"{redacted(url)}: did not answer with JSON: is it an OpenML server?"
        ) from None


def _as_described(description: Description, access: Access) -> Acquired:
    archive = access.stored(description.md5)
    downloaded = archive is None
    if archive:
        access.report(f"OpenML still names md5 {description.md5}: the archive in the store serves")
        result = checksum(archive, description.md5)
    else:
        archive, result = _verified(partial(download, description, access), description.md5, access)
    return Acquired(archive, redacted(description.url), result, downloaded)


def _verified(get: Callable[[], Archive], md5: str, access: Access) -> tuple[Archive, CheckResult]:
    """Return what `get` brings and whether it has an MD5; got once more if it has not.

    TCP's checksum misses some errors.
    """
    archive = get()
    result = checksum(archive, md5)
    if result.passed:
        return archive, result
    access.report(f"{result.description}. Trying again")
    archive = get()
    return archive, checksum(archive, md5)


def _kept(kept: Acquired, access: Access, errors: Sequence[SourceError]) -> Acquired:
    access.report(f"{errors[0]}. The archive in the store, from {kept.origin}, serves")
    return replace(kept, failed=_texts(errors))


def _failed(errors: Sequence[SourceError], mirrors: Sequence[str]) -> SourceError:
    tried = "\n".join(f"- {text}" for text in _texts(errors))
    places = "MNIST_OPENML_SERVER and MNIST_MIRRORS" if mirrors else "MNIST_OPENML_SERVER"
    message = (
        f"the data could not be downloaded:\n{tried}\nCheck the network, {places}, or work "
        "offline with MNIST_SOURCE=sample."
    )
    waits = [error.wait_seconds or 0 for error in errors if isinstance(error, UnavailableError)]
    return UnavailableError(message, max(waits)) if waits else SourceError(message)


def _texts(errors: Sequence[SourceError]) -> list[str]:
    return [str(error) for error in errors]
