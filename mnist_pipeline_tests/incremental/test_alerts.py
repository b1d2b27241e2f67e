"""Alerts by mail and webhook, to real servers on 127.0.0.1; `test_daemon` has the sensors."""

import http.server
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.message import Message

import pytest

from mnist_pipeline.incremental import alerts


class _Smtp(socketserver.StreamRequestHandler):
    """Just enough of a mail server without TLS."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode().strip().upper():
            if line == "DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(lambda: self.rfile.readline().decode().rstrip("\r\n"), ".")
                self.server.mails.append(message_from_string("\n".join(lines)))  # type: ignore[attr-defined]
            elif line == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@contextmanager
def mail_server() -> Iterator[tuple[str, list[Message]]]:
    """Give the address of a mail server, and what it receives."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Smtp) as server:
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", server.mails  # type: ignore[attr-defined]
        finally:
            server.shutdown()


def test_a_mail_has_subject_sender_receivers_and_text() -> None:
    with mail_server() as (server, mails):
        address = f"smtp://{server}?from=a@example.org&to=b@example.org&to=c@example.org"
        alerts.send([alerts.checked_address(address)], "it failed", "left: the cause\nRun 1")
    [mail] = mails
    assert mail["Subject"] == "it failed"
    assert mail["From"] == "a@example.org"
    assert mail["To"] == "b@example.org, c@example.org"
    assert "left: the cause\nRun 1" in str(mail.get_payload())


def test_a_password_is_not_sent_where_the_connection_is_not_encrypted() -> None:
    with mail_server() as (server, mails):
        address = f"smtp://user:secret@{server}?from=a@example.org&to=b@example.org"
        with pytest.raises(OSError, match="STARTTLS"):
            alerts.send([address], "it failed", "")
    assert mails == []


def test_a_webhook_that_answers_with_an_error_is_an_error() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(OSError, match="501"):
            alerts.send([f"http://127.0.0.1:{server.server_port}/"], "it failed", "")


@pytest.mark.parametrize(
    "address", ["ftp://host/", "https://", "a@example.org", "smtp://host", "smtps://h?to=b"]
)
def test_an_address_that_takes_no_alerts_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="need"):
        alerts.checked_address(address)
