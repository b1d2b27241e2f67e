"""Alerts by mail and webhook, to real servers on 127.0.0.1; `test_daemon` has the sensors."""

import base64
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from mnist_pipeline.incremental import alerts
from mnist_pipeline_tests.support.servers import free_port, self_signed


@dataclass
class Mails:
    """What a mail server received: each mail, and who had logged in, over TLS or not."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    """Offered by STARTTLS."""
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)


@contextmanager
def mail_server(certificate: Path | None = None, *, implicit: bool = False) -> Iterator[Mails]:
    """Serve just enough of SMTP: without TLS, with STARTTLS, or (`implicit`) TLS from the start."""
    found = Mails()

    class Smtp(socketserver.StreamRequestHandler):
        def finish(self) -> None:
            super().finish()
            self.request.close()  # the server closes what STARTTLS replaced

        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip():
                match line.upper().split():
                    case ["EHLO", *_]:
                        offered = [b"here", b"AUTH PLAIN", *([b"STARTTLS"] if found.tls else [])]
                        text = b"".join(b"250-%s\r\n" % one for one in offered)
                        self.wfile.write(text + b"250 8BITMIME\r\n")
                    case ["STARTTLS"] if found.tls:
                        self.wfile.write(b"220 go on\r\n")
                        self.request = found.tls.wrap_socket(self.request, server_side=True)
                        self.setup()
                    case ["AUTH", "PLAIN", _]:
                        is_safe = isinstance(self.request, ssl.SSLSocket)
                        login = base64.b64decode(line.split()[2]).decode()
                        found.logins.append((login.strip("\0"), is_safe))
                        self.wfile.write(b"235 ok\r\n")
                    case ["DATA"]:
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(lambda: self.rfile.readline().rstrip(b"\r\n"), b".")
                        mail = message_from_bytes(b"\n".join(lines), policy=policy.default)
                        found.mails.append(mail)
                        self.wfile.write(b"250 ok\r\n")
                    case ["QUIT"]:
                        self.wfile.write(b"221 bye\r\n")
                        return
                    case _:
                        self.wfile.write(b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        found.port = server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if implicit:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            else:
                found.tls = context
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()


@contextmanager
def webhook() -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    """Give the address of a webhook, and the type and body of what it receives."""
    received: list[tuple[str | None, bytes]] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["Content-Type"], body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/services/T0/B0/secret", received
        finally:
            server.shutdown()


def test_a_mail_has_subject_sender_receivers_and_text() -> None:
    with mail_server() as server:
        address = f"smtp://127.0.0.1:{server.port}?from=a+b@example.org&to=b@example.org&to=c@d.org"
        alerts.send([alerts.checked_address(address)], "it failed", "left: the cause \N{EURO SIGN}")
    [mail] = server.mails
    assert mail["Subject"] == "it failed"
    assert mail["From"] == "a+b@example.org"
    assert mail["To"] == "b@example.org, c@d.org"
    assert mail.get_content() == "left: the cause \N{EURO SIGN}"
    assert server.logins == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_login_comes_over_tls_that_is_from_the_start_or_by_starttls(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with mail_server(certificate, implicit=scheme == "smtps") as server:
        user = "me%40example.org:p%3Ass"
        address = f"{scheme}://{user}@localhost:{server.port}?from=a@example.org&to=b@example.org"
        alerts.send([alerts.checked_address(address)], "it failed", "the cause")
    assert server.logins == [("me@example.org\0p:ss", True)]
    assert [mail["Subject"] for mail in server.mails] == ["it failed"]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_mail_server_whose_certificate_is_not_trusted_gets_no_password(
    scheme: str, tmp_path: Path
) -> None:
    with mail_server(self_signed(tmp_path), implicit=scheme == "smtps") as server:
        address = f"{scheme}://u:secret@localhost:{server.port}?from=a@b.org&to=b@b.org"
        with pytest.raises(OSError, match="certificate verify failed"):
            alerts.send([address], "it failed", "")
    assert not server.logins
    assert not server.mails


def test_a_password_is_not_sent_where_the_connection_is_not_encrypted() -> None:
    with mail_server() as server:
        address = f"smtp://user:secret@127.0.0.1:{server.port}?from=a@b.org&to=b@b.org"
        with pytest.raises(OSError, match="STARTTLS"):
            alerts.send([address], "it failed", "")
    assert not server.logins
    assert not server.mails


def test_a_webhook_gets_the_text_as_json_as_slack_takes_it() -> None:
    with webhook() as (address, received):
        alerts.send([alerts.checked_address(address)], "it failed", "the \N{EURO SIGN} cause")
    [(kind, body)] = received
    assert kind == "application/json"
    assert json.loads(body) == {"text": "it failed\nthe \N{EURO SIGN} cause"}


def test_an_address_that_fails_keeps_no_other_from_its_alert_and_is_named_without_its_secret() -> (
    None
):
    gone = f"http://localhost:{free_port()}/services/secret"
    refused = pytest.raises(OSError, match=r"sent to localhost: .*refused")
    with webhook() as (address, received), refused as error:
        alerts.send([gone, address], "it failed", "")
    assert len(received) == 1
    assert "secret" not in str(error.value)


def test_a_webhook_that_answers_with_an_error_is_an_error() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(OSError, match="501"):
            alerts.send([f"http://127.0.0.1:{server.server_port}/"], "it failed", "")


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/",
        "https://",
        "a@example.org",
        "smtp://host",
        "smtps://h?to=b",
        "https://host:port/",
        "smtp://host:99999?from=a&to=b",
    ],
)
def test_an_address_that_takes_no_alerts_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"need|[Pp]ort"):
        alerts.checked_address(address)
