"""Loopback HTTP servers: OpenML with one data set, or as it fails, and a folder of files."""

import gzip
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DOWNLOAD = "/data/v1/download/52667/mnist_784.arff"

_FEATURES = [
    {
        "index": str(index),
        "name": "class" if index == 784 else f"pixel{index + 1}",
        "data_type": "nominal" if index == 784 else "numeric",
        "is_target": str(index == 784).lower(),
        "is_ignore": "false",
        "is_row_identifier": "false",
        "number_of_missing_values": "0",
    }
    for index in range(785)
]
"""What OpenML says of the columns; only scikit-learn's client asks."""


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong.

    Attributes
    ----------
    status : int
    headers : mapping
        Beside, or instead of, the true ones.
    body : bytes or None
        Instead of the true one.
    cut : int or None
        Bytes of the body after which the connection is closed.
    stall : bool
        Say nothing more after those bytes until the server is stopped.
    flip : bool
        One bit of the body is another.
    drip : float
        Seconds between one byte of the body and the next.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    stall: bool = False
    flip: bool = False
    drip: float = 0.0


@dataclass
class OpenML:
    """What the server answers, and what it was asked.

    Attributes
    ----------
    packed : bytes
        The ARFF, gzip-compressed.
    md5 : str
        What the description promises of the decompressed ARFF.
    name : str
        Of the data set.
    down : bool
        Answer 503 to everything.
    instead : dict
        Body to answer with, by path, as if it were JSON.
    compress : bool
        Whether the download comes as gzip when asked for.
    encoding : str
        What the compressed download says that it is.
    faults : dict
        By path, the answers that go wrong, in order; after them they are right.
    requests : list of str
        Paths asked for, in order.
    """

    packed: bytes
    md5: str
    name: str = "mnist_784"
    down: bool = False
    instead: dict[str, bytes] = field(default_factory=dict)
    compress: bool = True
    encoding: str = "gzip"
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @classmethod
    def of(cls, arff: bytes, name: str = "mnist_784") -> "OpenML":
        """Serve this ARFF with a true md5."""
        md5 = hashlib.md5(arff, usedforsecurity=False).hexdigest()
        return cls(gzip.compress(arff, 1, mtime=0), md5, name)

    @property
    def downloads(self) -> int:
        """How often the ARFF itself was asked for."""
        return self.requests.count(DOWNLOAD)


@contextmanager
def serve(openml: OpenML, certificate: Path | None = None) -> Iterator[OpenML]:
    """Serve on a free port of 127.0.0.1 until the block ends; with a certificate, over TLS."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            openml.requests.append(self.path)
            if openml.down:
                self._answer(b"{}", "application/json", status=503)
            elif self.path in openml.instead:
                self._answer(openml.instead[self.path], "application/json")
            elif self.path.startswith(f"/api/v1/json/data/list/data_name/{openml.name}/"):
                dataset = {"did": 554, "name": openml.name, "version": 1, "status": "active"}
                self._json({"data": {"dataset": [dataset]}})
            elif self.path == "/api/v1/json/data/554":
                description = {
                    "id": "554",
                    "name": openml.name,
                    "version": "1",
                    "status": "active",
                    "description": "The MNIST database of handwritten digits",
                    "format": "ARFF",
                    "file_id": "52667",
                    "default_target_attribute": "class",
                    "url": openml.url + DOWNLOAD,
                    "md5_checksum": openml.md5,
                }
                self._json({"data_set_description": description})
            elif self.path == "/api/v1/json/data/features/554":
                self._json({"data_features": {"feature": _FEATURES}})
            elif self.path == "/api/v1/json/data/qualities/554":
                self._json({"data_qualities": {"quality": []}})
            elif self.path == DOWNLOAD:
                if openml.compress and "gzip" in self.headers.get("Accept-Encoding", ""):
                    self._answer(openml.packed, "text/plain", encoding=openml.encoding)
                else:
                    self._answer(gzip.decompress(openml.packed), "text/plain")
            else:
                self._answer(b"{}", "application/json", status=404)

        def _json(self, content: object) -> None:
            self._answer(json.dumps(content).encode(), "application/json")

        def _answer(self, body: bytes, kind: str, *, status: int = 200, encoding: str = "") -> None:
            waiting = openml.faults.get(self.path, [])
            fault = waiting.pop(0) if waiting else Fault(status)
            body = body if fault.body is None else fault.body
            if fault.flip:
                middle = len(body) // 2
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            headers = {"Content-Type": kind, "Content-Length": str(len(body))}
            if encoding and fault.body is None:
                headers["Content-Encoding"] = encoding
            self.send_response(fault.status)
            for name, value in (headers | dict(fault.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            if fault.drip:
                for byte in body:
                    if over.wait(fault.drip):
                        break
                    self.wfile.write(bytes([byte]))
            else:
                self.wfile.write(body[: fault.cut])
            if fault.stall:
                over.wait()
            self.close_connection = fault != Fault(fault.status)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        openml.url = f"http://127.0.0.1:{server.server_port}"
        if certificate:
            openml.url = f"https://localhost:{server.server_port}"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield openml
        finally:
            over.set()
            server.shutdown()
            thread.join()


@contextmanager
def serve_files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on a free port of 127.0.0.1; yield its URL and the paths that were asked for.

    They are added in order.
    """
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            requests.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()
