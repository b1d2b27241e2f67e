"""The OpenML client against a real HTTP server on loopback."""

import gzip
import json
import socket

import pytest

from mnist_pipeline.digits import progress
from mnist_pipeline.digits.errors import SourceError, UnreachableError
from mnist_pipeline.digits.progress import Progress, silent
from mnist_pipeline.digits.sources import openml, sample, transfer
from mnist_pipeline.digits.sources.archive import Archive, checksum
from mnist_pipeline.digits.sources.source import Access
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline_tests.support.openml_server import DOWNLOAD, OpenML, serve

LIST = "/api/v1/json/data/list/data_name/mnist_784/limit/2/data_version/1"
DESCRIPTION = "/api/v1/json/data/554"


def obtain(server: OpenML, report: Progress = silent) -> Archive:
    """What the client downloads from a server."""
    access = Access(transfer.get, server.url, report=report)
    return openml.download(openml.describe(access), access)


def test_the_archive_is_kept_byte_for_byte_as_it_was_served(small_openml: OpenML) -> None:
    with serve(small_openml) as server:
        found = obtain(server)
    assert found.data == server.packed
    assert found.filename == "mnist_784.arff.gz"
    assert checksum(found, server.md5).passed
    assert server.requests == [LIST, DESCRIPTION, DOWNLOAD]


def test_an_uncompressed_download_is_compressed_here_and_has_the_same_version(
    small_openml: OpenML, small_arff: bytes
) -> None:
    small_openml.compress = False
    with serve(small_openml) as server:
        twice = [obtain(server) for _ in range(2)]
    assert gzip.decompress(twice[0].data) == small_arff
    assert twice[0].data == twice[1].data
    assert twice[0].data_version == Archive(small_openml.packed, "mnist_784.arff.gz").data_version


def test_progress_goes_up_to_the_whole_download(
    small_openml: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    seen: list[str] = []
    with serve(small_openml) as server:
        obtain(server, seen.append)
    whole = f"{len(server.packed) / 1e6:.1f}"
    assert seen[-1] == f"downloaded {whole} of {whole} MB"
    assert len(seen) > 1
    done = [float(text.split()[1]) for text in seen]
    assert done == sorted(done)


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=f"{url}/api.*refused .3 attempts"):
        openml.describe(Access(transfer.get, url))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>maintenance</html>", "did not answer with JSON"),
        (b'{"data": {"dataset": []}}', "lacks what a client needs"),
        (b"[]", "lacks what a client needs"),
        (b'{"data": {"dataset": [{"did": null}]}}', "lacks what a client needs"),
    ],
)
def test_an_answer_that_is_not_openmls_is_refused(
    answer: bytes, message: str, small_openml: OpenML
) -> None:
    small_openml.instead[LIST] = answer
    with serve(small_openml) as server, pytest.raises(SourceError, match=message):
        openml.describe(Access(transfer.get, server.url))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"md5_checksum": "../train_set"}, "names an invalid md5: '../train_set'"),
        ({"md5_checksum": None}, "lacks what a client needs"),
        ({"url": "file:///etc/passwd"}, "not an http.s. URL: file:///etc/passwd"),
        ({"url": "http://[bad"}, "lacks what a client needs"),
    ],
)
def test_a_description_that_leads_elsewhere_is_refused_before_any_download(
    description: dict[str, object], message: str, small_openml: OpenML
) -> None:
    full = {"url": f"http://127.0.0.1:9{DOWNLOAD}", "md5_checksum": "0" * 32} | description
    small_openml.instead[DESCRIPTION] = json.dumps({"data_set_description": full}).encode()
    with serve(small_openml) as server, pytest.raises(SourceError, match=message):
        openml.describe(Access(transfer.get, server.url))


def test_a_content_encoding_that_was_not_asked_for_is_refused(small_openml: OpenML) -> None:
    small_openml.encoding = "br"
    with serve(small_openml) as server, pytest.raises(SourceError, match="came as br"):
        obtain(server)


def test_an_archive_that_is_no_gzip_fails_its_checksum_and_does_not_raise() -> None:
    result = checksum(Archive(b"<html>", "mnist_784.arff.gz"), "0" * 32)
    assert not result.passed
    assert "not a whole gzip file" in result.description


def test_an_archive_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_pipeline.digits.sources.archive.MAX_BYTES", 10_000_000)
    bomb = Archive(gzip.compress(bytes(20_000_000)), "mnist_784.arff.gz")
    with pytest.raises(FormatError, match="has more than 10,000,000 bytes"):
        _ = bomb.data_version


def test_the_sample_has_the_md5_that_is_promised_for_it() -> None:
    assert checksum(sample.read(), sample.MD5).passed
