"""Transfers against a loopback server that misbehaves: what is tried again, how often, and said."""

import datetime as dt
import email.utils
import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline.digits import progress
from mnist_pipeline.digits.errors import SourceError, UnavailableError, UnreachableError, redacted
from mnist_pipeline.digits.sources import openml, transfer
from mnist_pipeline.digits.sources.archive import checksum
from mnist_pipeline.digits.sources.source import Access
from mnist_pipeline_tests.digits.test_openml import DESCRIPTION, LIST, obtain
from mnist_pipeline_tests.support.openml_server import DOWNLOAD, Fault, OpenML, serve
from mnist_pipeline_tests.support.servers import self_signed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(transfer, "READ_SECONDS", 0.3)


@pytest.mark.parametrize("path", [LIST, DESCRIPTION, DOWNLOAD])
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(503), Fault(503)], id="503 twice"),
        pytest.param([Fault(500), Fault(504)], id="500, 504"),
        pytest.param([Fault(429), Fault(429, {"Retry-After": "0"})], id="429 twice"),
        pytest.param([Fault(503, {"Retry-After": "soon"})], id="an odd Retry-After"),
        pytest.param([Fault(503, {"Retry-After": "9" * 5000})], id="a mad Retry-After"),
        pytest.param([Fault(cut=10), Fault(cut=1)], id="cut twice"),
        pytest.param([Fault(cut=10, stall=True)], id="stalled"),
        pytest.param([Fault(headers={"Content-Length": "1000000"})], id="too short"),
    ],
)
def test_what_passes_is_tried_again_until_it_has_passed(
    path: str, faults: list[Fault], small_openml: OpenML
) -> None:
    small_openml.faults[path] = list(faults)
    with serve(small_openml) as server:
        assert obtain(server).data == server.packed
    expected = {LIST: 1, DESCRIPTION: 1, DOWNLOAD: 1} | {path: len(faults) + 1}
    assert {asked: server.requests.count(asked) for asked in server.requests} == expected


@pytest.mark.parametrize("path", [LIST, DESCRIPTION, DOWNLOAD])
@pytest.mark.parametrize(
    ("fault", "attempts", "said"),
    [
        pytest.param(Fault(503), 3, "answers 503 Service Unavailable", id="503"),
        pytest.param(Fault(cut=10), 3, "bytes read", id="cut"),
        pytest.param(Fault(stall=True, cut=10), 3, "timed out", id="stalled"),
        pytest.param(Fault(404), 1, "answers 404 Not Found", id="404"),
        pytest.param(Fault(412), 1, "answers 412 Precondition Failed", id="412"),
        pytest.param(Fault(403), 1, "answers 403", id="403"),
        pytest.param(
            Fault(200, {"Content-Type": "Text/HTML; charset=utf-8"}, b"<html>down</html>"),
            1,
            "a web page, not .* data",
            id="HTML",
        ),
        pytest.param(
            Fault(503, {"Retry-After": "3600"}), 1, "503 .* asks to wait 3600 s", id="an hour"
        ),
        pytest.param(Fault(200, {"Content-Length": "9" * 12}), 1, "more than", id="too large"),
    ],
)
def test_what_does_not_pass_is_one_message_with_address_and_attempts(
    path: str, fault: Fault, attempts: int, said: str, small_openml: OpenML
) -> None:
    small_openml.faults[path] = [fault] * 5
    with serve(small_openml) as server, pytest.raises(SourceError, match=said) as caught:
        obtain(server)
    assert server.requests.count(path) == attempts
    assert str(caught.value).startswith(server.url + path)
    assert (f"({attempts} attempts)" in str(caught.value)) == isinstance(
        caught.value, UnavailableError
    )


def in_a_second() -> str:
    # an HTTP date has no fractions: this is one to two seconds from now
    when = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    return email.utils.format_datetime(when, usegmt=True)


@pytest.mark.parametrize("asked", [lambda: "1", in_a_second], ids=["seconds", "a date"])
def test_a_server_is_left_alone_as_long_as_it_asks(
    asked: Callable[[], str], small_openml: OpenML
) -> None:
    small_openml.faults[LIST] = [Fault(429, {"Retry-After": asked()})]
    start = time.monotonic()
    with serve(small_openml) as server:
        openml.describe(Access(transfer.get, server.url))
    assert time.monotonic() - start >= 0.9
    assert server.requests == [LIST, LIST, DESCRIPTION]


def test_pauses_are_random_and_grow(small_openml: OpenML, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.5)
    pauses: list[float] = []
    here, sleep = threading.current_thread(), time.sleep
    # what other threads of the tests' process wait for is theirs
    monkeypatch.setattr(
        time,
        "sleep",
        lambda pause: (pauses.append if threading.current_thread() is here else sleep)(pause),
    )
    for _ in range(10):
        small_openml.faults[LIST] = [Fault(503)] * 3
        with serve(small_openml) as server, pytest.raises(UnavailableError):
            openml.describe(Access(transfer.get, server.url))
    assert len(set(pauses)) == len(pauses) == 20
    assert all(0.25 <= pause <= 0.5 for pause in pauses[::2])
    assert all(0.5 <= pause <= 1.0 for pause in pauses[1::2])


def test_redirects_are_followed_but_not_for_ever(small_openml: OpenML) -> None:
    small_openml.faults[LIST] = [Fault(302, {"Location": LIST})] * 2
    with serve(small_openml) as server:
        openml.describe(Access(transfer.get, server.url))
    assert server.requests.count(LIST) == 3
    small_openml.requests.clear()
    small_openml.faults[LIST] = [Fault(302, {"Location": LIST})] * 100
    with serve(small_openml) as server, pytest.raises(SourceError, match="5 redirects"):
        openml.describe(Access(transfer.get, server.url))
    assert server.requests.count(LIST) == transfer.REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("file:///etc/passwd", "leads to file:///etc/passwd"),
        ("http://[", "Invalid IPv6 URL"),
        ("//[", "Invalid IPv6 URL"),
        ("gopher://a:b'c@d/", r"leads to gopher://\*\*\*@d/"),
    ],
)
def test_a_redirect_to_what_is_no_web_server_is_refused(
    location: str, said: str, small_openml: OpenML
) -> None:
    small_openml.faults[LIST] = [Fault(302, {"Location": location})]
    with serve(small_openml) as server, pytest.raises(SourceError, match=said):
        transfer.get(server.url + LIST, {}, most=1000)
    assert server.requests == [LIST]


def test_a_redirect_from_https_to_http_is_refused(
    small_openml: OpenML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    small_openml.faults["/safe"] = [Fault(302, {"Location": f"http://localhost:1{LIST}"})]
    small_openml.faults["/on"] = [Fault(302, {"Location": LIST})]
    with serve(small_openml, certificate) as server:
        with pytest.raises(SourceError, match="leads to http://localhost"):
            transfer.get(f"{server.url}/safe", {}, most=1000)
        assert b"dataset" in transfer.get(f"{server.url}/on", {}, most=1000).body
    assert server.requests == ["/safe", "/on", LIST]


def test_a_certificate_that_is_not_trusted_is_refused(small_openml: OpenML, tmp_path: Path) -> None:
    with (
        serve(small_openml, self_signed(tmp_path)) as server,
        pytest.raises(SourceError, match="certificate verify failed"),
    ):
        transfer.get(server.url + LIST, {}, most=1000)
    assert server.requests == []


def test_a_proxy_of_the_environment_is_asked_unless_no_proxy_names_the_server(
    small_openml: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(small_openml) as server:
        proxy = server.url.replace("://", "://somebody:hunter2@")
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert transfer.get(server.url + LIST, {}, most=1000).body
        there = f"http://u:pw@nowhere.invalid{LIST}"
        small_openml.faults[f"http://nowhere.invalid{LIST}"] = [Fault(body=b"by the proxy")]
        assert transfer.get(there, {}, most=1000).body == b"by the proxy"
    assert server.requests == [LIST, f"http://nowhere.invalid{LIST}"]


def test_what_comes_with_a_redirect_is_not_read(small_openml: OpenML) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    headers = {"Location": DESCRIPTION, "Content-Encoding": "gzip", "Content-Length": "9" * 12}
    small_openml.faults[LIST] = [Fault(302, headers, bomb, stall=True)]
    with serve(small_openml) as server:
        answer = transfer.get(server.url + LIST, {}, most=1000)
    assert b"data_set_description" in answer.body
    assert server.requests == [LIST, DESCRIPTION]


@pytest.mark.parametrize("status", [204, 206, 301, 304, 999])
def test_what_is_no_plain_answer_is_none(status: int, small_openml: OpenML) -> None:
    small_openml.faults[LIST] = [Fault(status)] * 3
    with serve(small_openml) as server, pytest.raises(SourceError, match=f"answers {status}"):
        transfer.get(server.url + LIST, {}, most=1000)


@pytest.mark.parametrize(
    "url",
    ["http://u:it'spw@h/x", 'http://u:it"spw@h/x', "http://u:it spw@h/x", "http://h/?a='it spw"],
)
def test_odd_passwords_are_secrets_too(url: str) -> None:
    assert "it" not in redacted(f"{url}: refused").removesuffix("refused").split("spw")[0]


def test_what_others_wrote_does_not_reach_the_terminal_as_it_is() -> None:
    assert redacted("a\x1b[2Jb\nc\ud800") == "a\\x1b[2Jb\\nc\\ud800"


def test_a_body_that_does_not_end_is_left_at_the_limit(
    small_openml: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_openml.compress = False
    monkeypatch.setattr(openml, "MAX_BYTES", 300_000)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    received: list[str] = []
    # without a Content-Length only the bytes themselves tell
    small_openml.faults[DOWNLOAD] = [Fault(headers={"Content-Length": ""})]
    with serve(small_openml) as server, pytest.raises(SourceError, match="more than 300,000 bytes"):
        obtain(server, received.append)
    assert received
    assert all(float(text.split()[1]) <= 0.3 for text in received)
    assert server.downloads == 1


def test_an_attempt_that_trickles_is_given_up(
    small_openml: OpenML, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MOST_SECONDS", 0.5)
    # a byte comes often enough, and all of them would take two minutes
    small_openml.faults[DESCRIPTION] = [Fault(drip=0.1, body=b"{}" * 600)] * transfer.ATTEMPTS
    start = time.monotonic()
    with serve(small_openml) as server, pytest.raises(UnavailableError, match="not done within"):
        openml.describe(Access(transfer.get, server.url))
    assert time.monotonic() - start < 20
    assert server.requests.count(DESCRIPTION) == transfer.ATTEMPTS


def test_a_flipped_bit_is_seen_by_the_checksum(small_openml: OpenML) -> None:
    small_openml.faults[DOWNLOAD] = [Fault(flip=True)]
    with serve(small_openml) as server:
        archive = obtain(server)
    assert not checksum(archive, server.md5).passed
    assert server.downloads == 1


def test_no_user_password_or_query_of_an_address_is_ever_said(small_openml: OpenML) -> None:
    secrets = ("somebody", "hunter2", "s3cret")
    with serve(small_openml) as server:
        host = server.url.removeprefix("http://")
        address = f"http://somebody:hunter2@{host}/x?token=s3cret"
        for fault in [Fault(404), Fault(503), Fault(cut=1), Fault(302, {"Location": "gopher://a"})]:
            server.faults["/x?token=s3cret"] = [fault] * 3
            with pytest.raises(SourceError) as caught:
                transfer.get(address, {}, most=1000)
            assert f"http://***@{host}/x?***" in str(caught.value)
            assert not any(secret in str(caught.value) for secret in secrets)
            # nor what urllib3 said: Dagster logs whatever hangs on an error
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with pytest.raises(UnreachableError) as lost:
        transfer.get(address, {}, most=1000)
    assert not any(secret in str(lost.value) for secret in secrets)
