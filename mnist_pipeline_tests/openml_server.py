"""A loopback HTTP server that answers as OpenML does for mnist_784, from given ARFF bytes."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


@dataclass
class OpenML:
    """What the server answers, and what it was asked.

    Attributes
    ----------
    packed : bytes
        The ARFF, gzip-compressed.
    md5 : str
        What the description promises of the decompressed ARFF.
    failing : dict
        Status code to answer with, by path.
    instead : dict
        Body to answer with, by path, as if it were JSON.
    compress : bool
        Whether the download comes as gzip when asked for.
    encoding : str
        What the compressed download says that it is.
    cut : int or None
        Bytes of the download after which the connection is closed.
    requests : list of str
        Paths asked for, in order.
    """

    packed: bytes
    md5: str
    failing: dict[str, int] = field(default_factory=dict)
    instead: dict[str, bytes] = field(default_factory=dict)
    compress: bool = True
    encoding: str = "gzip"
    cut: int | None = None
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @classmethod
    def of(cls, arff: bytes) -> "OpenML":
        """Serve this ARFF with a true md5."""
        md5 = hashlib.md5(arff, usedforsecurity=False).hexdigest()
        return cls(gzip.compress(arff, 1, mtime=0), md5)

    @property
    def downloads(self) -> int:
        """How often the ARFF itself was asked for."""
        return self.requests.count(DOWNLOAD)


@contextmanager
def serve(openml: OpenML) -> Iterator[OpenML]:
    """Serve on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            openml.requests.append(self.path)
            if status := openml.failing.get(self.path):
                self._answer(b"{}", "application/json", status=status)
            elif self.path in openml.instead:
                self._answer(openml.instead[self.path], "application/json")
            elif self.path.startswith("/api/v1/json/data/list/data_name/mnist_784/"):
                dataset = {"did": 554, "name": "mnist_784", "version": 1, "status": "active"}
                self._json({"data": {"dataset": [dataset]}})
            elif self.path == "/api/v1/json/data/554":
                description = {
                    "id": "554",
                    "name": "mnist_784",
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
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            if self.path == DOWNLOAD and openml.cut:
                self.wfile.write(body[: openml.cut])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        openml.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield openml
        finally:
            server.shutdown()
            thread.join()
