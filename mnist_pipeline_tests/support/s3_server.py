"""A loopback S3 server: moto's, over HTTP, with a record of what it was asked and how it fails."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import boto3

KEY = "AKIDLOOPBACK"
SECRET = "the-secret-of-loopback"
BUCKET = "bucket"

Answer = tuple[str, bytes]
"""Status line and body."""


@dataclass
class S3Server:
    """What a server was asked: its operations, and the bytes of bodies that it sent."""

    url: str
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    before: Callable[[str, dict[str, Any]], Answer | None] = lambda operation, environ: None
    """Called with each operation; what it returns is answered instead of the true answer."""

    @property
    def environment(self) -> dict[str, str]:
        """What leads boto3 here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    @property
    def client(self) -> Any:
        """Somebody else's client."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def keys(self, prefix: str = "") -> list[str]:
        """The objects below a prefix, by the rest of their names."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [one["Key"].removeprefix(prefix) for one in found]

    @contextmanager
    def watched(self) -> Iterator[Counter[str]]:
        """Count the operations, by name, that it is asked for meanwhile."""
        start = len(self.asked)
        counted: Counter[str] = Counter()
        yield counted
        counted.update(self.asked[start:])


def _operation(environ: dict[str, Any]) -> str:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/")
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    if "/" not in path:
        return "HeadBucket" if method == "HEAD" else "ListObjects" if method == "GET" else "Bucket"
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        return "UploadPart" if method == "PUT" else "CompleteMultipartUpload"
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "CopyObject"
    return f"{method.capitalize()}Object"


@contextmanager
def serve() -> Iterator[S3Server]:
    """Serve one empty bucket; who has another access key is refused, as Amazon's S3 does."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    inner = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        operation = _operation(environ)
        server.asked.append(operation)
        answer = server.before(operation, environ)
        if answer is None and KEY not in environ.get("HTTP_AUTHORIZATION", ""):
            answer = "403 Forbidden", b"<Error><Code>InvalidAccessKeyId</Code></Error>"
        if answer is not None:
            status, body = answer
            start_response(status, [("Content-Type", "application/xml")])
            return [body if environ["REQUEST_METHOD"] != "HEAD" else b""]
        chunks = list(inner(environ, start_response))
        server.sent += sum(map(len, chunks))
        return chunks

    http = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    server = S3Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        server.client.create_bucket(Bucket=BUCKET)
        server.asked.clear()
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
