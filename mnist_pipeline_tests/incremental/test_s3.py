"""The store in a bucket: what the local store promises, over HTTP, with a server that can fail."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.incremental import s3
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.s3 import S3Store
from mnist_pipeline.incremental.store import Artifact, DamagedError, open_store
from mnist_pipeline_tests.support.s3_server import BUCKET, KEY, SECRET, Answer, S3Server, serve

FILE = "clean.parquet"
DATA = b"0123456789"
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def _server() -> Iterator[S3Server]:
    with serve() as server:
        yield server


@pytest.fixture
def server(_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    yield _server
    _server.before = lambda operation, environ: None


@pytest.fixture
def store(server: S3Server, tmp_path: Path) -> S3Store:
    found = open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", locks=tmp_path)
    assert isinstance(found, S3Store)
    return found


def publish(store: S3Store, data: bytes | Path = DATA) -> Artifact:
    return store.publish("clean", FILE, data)


def prefix(store: S3Store) -> str:
    return "/".join(store.root.parts[1:]) + "/clean/"


def put(store: S3Store, server: S3Server, name: str, data: bytes, **more: Any) -> None:
    server.client.put_object(Bucket=BUCKET, Key=prefix(store) + name, Body=data, **more)


def test_what_was_published_is_read_back_from_a_folder_named_by_its_digest(
    store: S3Store, server: S3Server, tmp_path: Path
) -> None:
    with server.watched() as asked:
        artifact = publish(store)
    assert asked["PutObject"] == 1, "all at once"
    assert str(artifact.path) == f"{store.root}/clean/{NAME}/{FILE}"
    assert artifact == store.artifact("clean", NAME, FILE, 10)
    assert store.read(artifact) == DATA
    assert store.size(artifact) == 10
    with server.watched() as asked:
        assert store.is_intact(artifact)
    assert asked == {"HeadObject": 1}
    assert server.keys(prefix(store)) == [f"{NAME}/{FILE}"]
    again = open_store(store.root, locks=tmp_path)
    assert again.locks == tmp_path
    assert again.read(artifact) == DATA


def test_publishing_what_is_intact_writes_nothing_and_nothing_is_listed(
    store: S3Store, server: S3Server, tmp_path: Path
) -> None:
    publish(store)
    (tmp_path / "finished").write_bytes(DATA)
    with server.watched() as asked:
        first, second = publish(store), publish(store, tmp_path / "finished")
    assert first == second
    assert set(asked) == {"HeadObject", "GetObject"}


@pytest.mark.parametrize(
    "damage", ["same size", "same metadata", "longer", "empty", "other metadata", "missing"]
)
def test_damage_is_found_before_any_reader_and_repaired_in_place_by_publishing(
    store: S3Store, server: S3Server, damage: str
) -> None:
    artifact = publish(store)
    name = f"{NAME}/{FILE}"
    match damage:
        case "same size":
            put(store, server, name, DATA[::-1])
        case "same metadata":
            put(store, server, name, DATA[::-1], Metadata={"sha256": NAME})
        case "longer":
            put(store, server, name, DATA * 2, Metadata={"sha256": NAME})
        case "empty":
            put(store, server, name, b"")
        case "other metadata":
            put(store, server, name, DATA, Metadata={"sha256": "0" * 64})
        case "missing":
            server.client.delete_object(Bucket=BUCKET, Key=prefix(store) + name)
            assert store.size(artifact) is None
    with pytest.raises(DamagedError, match=r"^clean is (missing|damaged).* Materialize clean\.$"):
        store.read(artifact)
    with pytest.raises(DamagedError, match="Materialize clean"), store.local(artifact):
        pytest.fail("it was given")
    # where an object claims the digest, its bytes are found out only by reading all of them
    if damage != "same metadata":
        assert not store.is_intact(artifact)
    with server.watched() as asked:
        assert publish(store) == artifact
    assert asked["PutObject"] == 1
    assert store.is_intact(artifact)
    assert store.read(artifact) == DATA
    assert server.keys(prefix(store)) == [name]


def test_a_file_of_another_size_is_not_read_however_large(store: S3Store, server: S3Server) -> None:
    artifact = publish(store)
    put(store, server, f"{NAME}/{FILE}", bytes(1 << 20))
    with server.watched() as asked:
        with pytest.raises(DamagedError, match=r"has 1,048,576 bytes, not read, recorded were 10"):
            store.read(artifact)
        assert not store.is_intact(artifact)
    assert asked == {"HeadObject": 2}


def test_an_object_without_a_digest_of_its_writer_is_verified_by_reading_it(
    store: S3Store, server: S3Server
) -> None:
    artifact = store.artifact("clean", NAME, FILE, 10)
    put(store, server, f"{NAME}/{FILE}", DATA)
    assert store.is_intact(artifact)
    assert store.read(artifact) == DATA
    with server.watched() as asked:
        publish(store)
    assert asked["PutObject"] == 0


def test_eight_writers_at_once_of_the_same_and_of_other_bytes_leave_whole_files_only(
    store: S3Store, server: S3Server, tmp_path: Path
) -> None:
    contents = [bytes([number]) * 10_000 for number in range(4)]
    damaged = publish(store, contents[0])
    put(store, server, f"{damaged.sha256}/{FILE}", bytes(5))
    with ThreadPoolExecutor(8) as pool:
        stores = [S3Store(store.root, tmp_path) for _ in range(8)]
        work = [(one, data) for data in contents for one in stores]
        artifacts = list(pool.map(lambda pair: publish(*pair), work))
    assert len(set(artifacts)) == 4
    for artifact, (_, data) in zip(artifacts, work, strict=True):
        assert store.read(artifact) == data
    assert len(server.keys(prefix(store))) == 4


_PUBLISHES = """
import sys
from pathlib import Path
from mnist_pipeline.incremental.store import open_store
open_store(sys.argv[1], locks=Path(".")).publish("clean", "clean.parquet", Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "moment", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_a_writer_killed_in_the_middle_of_an_upload_leaves_the_old_state(
    store: S3Store, server: S3Server, tmp_path: Path, moment: str
) -> None:
    file = tmp_path / "large"
    data = os.urandom(1 << 20) * 36
    file.write_bytes(data)
    artifact = store.artifact("clean", hashlib.sha256(data).hexdigest(), FILE, len(data))
    put(store, server, f"{artifact.sha256}/{FILE}", b"damaged")
    writers: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def kill(operation: str, environ: dict[str, Any]) -> Answer | None:
        if operation == moment:
            ready.wait(10)
            writers[0].kill()
            writers[0].wait(10)
            return "500 Internal Server Error", b""
        return None

    server.before = kill
    command = [sys.executable, "-c", _PUBLISHES, str(store.root), str(file)]
    writers.append(
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    )
    ready.set()
    assert writers[0].wait(60) == -9
    server.before = lambda operation, environ: None
    assert store.size(artifact) == 7
    assert not store.is_intact(artifact)
    with server.watched() as asked:
        publish(store, file)
    assert asked["UploadPart"] == 3
    assert store.read(artifact) == data
    with store.local(artifact) as path:
        assert path.read_bytes() == data
        assert path.name == FILE
    assert not path.exists()


def test_a_process_that_was_forked_from_a_reader_reads_too(store: S3Store) -> None:
    artifact = publish(store)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if store.read(artifact) == DATA else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_garbage_is_what_is_not_kept_and_the_old_layout_and_nothing_else(
    store: S3Store, server: S3Server
) -> None:
    assert store.garbage("clean", list, remove=True) == []
    put(store, server, "notes/by hand", b"1")
    put(store, server, f"{'1' * 32}/{FILE}", b"without sums")
    put(store, server, "2" * 64, b"an object, no folder")
    below = store.publish("clean/more", FILE, DATA)
    assert not store.holds("clean")
    foreign = server.keys(prefix(store))
    kept, gone = publish(store), publish(store, b"other")
    assert store.holds("clean")
    old = "0123456789abcdef" * 2
    put(store, server, f"{old}/{FILE}", b"old")
    put(store, server, f"{old}/SHA256SUMS", b"sums")
    put(store, server, f"{old}.damaged-3/{FILE}", b"damaged")
    expected = sorted([(old, 7), (f"{old}.damaged-3", 7), (gone.sha256, 5)])
    for remove in (False, True):
        found = store.garbage("clean", lambda: [kept.sha256], remove=remove)
        assert [(one.path.name, one.size) for one in found] == expected
    assert sorted(server.keys(prefix(store))) == sorted([*foreign, f"{kept.sha256}/{FILE}"])
    assert store.read(kept) == DATA
    assert store.read(below) == DATA


def test_what_became_needed_meanwhile_is_not_removed(store: S3Store) -> None:
    first, second = publish(store, b"1"), publish(store, b"2")
    asked: list[int] = []

    def keep() -> list[str]:
        asked.append(1)
        return [first.sha256] if len(asked) > 1 else []

    [removed] = store.garbage("clean", keep, remove=True)
    assert len(asked) == 3
    assert removed.path.name == second.sha256
    assert store.read(first) == b"1"
    assert store.size(second) is None


def test_a_collector_that_may_not_delete_is_one_error(store: S3Store, server: S3Server) -> None:
    publish(store)

    def refuse(operation: str, environ: dict[str, Any]) -> Answer | None:
        if operation == "DeleteObject":
            return "403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"
        return None

    server.before = refuse
    with pytest.raises(StoreError, match=r"the server refuses \(AccessDenied\).*DeleteObject"):
        store.garbage("clean", list, remove=True)


def test_a_server_that_stops_taking_an_upload_is_given_up(
    store: S3Store, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def stop(operation: str, environ: dict[str, Any]) -> None:
        if operation == "UploadPart":
            goes_on.wait(30)

    server.before = stop
    monkeypatch.setattr(s3, "_CONNECT_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(StoreError, match="the server does not answer"):
        publish(store, bytes(20 << 20))  # more than the sockets on the way hold
    assert time.monotonic() - began < 8
    goes_on.set()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("no credentials", "there are no credentials. Set AWS_ACCESS_KEY_ID"),
        ("another key", r"the server refuses \((403|InvalidAccessKeyId)\)"),
        ("no bucket", "there is no such bucket. Create it"),
        ("nobody there", "the server does not answer. Look at the network"),
        ("silence", "the server does not answer. Look at the network"),
        ("failing", "the server answers (500|InternalError)"),
    ],
)
def test_what_is_wrong_with_a_server_is_one_message_in_time_without_secrets(
    trouble: str,
    message: str,
    store: S3Store,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # on a busy machine a server that answers may take its time
    monkeypatch.setattr(s3, "_READ_SECONDS", 0.2 if trouble == "silence" else 5)
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    url = str(store.root)
    match trouble:
        case "no credentials":
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        case "another key":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSOMEBODYELSE")
        case "no bucket":
            url = "s3://no-such-bucket/prefix"
        case "nobody there":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        case "silence":
            listening = socket.create_server(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        case "failing":
            server.before = lambda operation, environ: ("500 Internal Server Error", b"")
    troubled = open_store(url, locks=tmp_path)
    artifact = troubled.artifact("clean", NAME, FILE, 10)
    began = time.monotonic()
    for act in (
        lambda: publish(troubled),  # type: ignore[arg-type]
        lambda: troubled.size(artifact),
        lambda: troubled.is_intact(artifact),
        lambda: troubled.read(artifact),
        lambda: troubled.garbage("clean", list, remove=True),
    ):
        with pytest.raises(StoreError, match=rf"^cannot use {url}/clean.*{message}") as caught:
            act()
        assert not isinstance(caught.value, DamagedError)
        assert "\n" not in str(caught.value)
        for word in (KEY, "AKIDSOMEBODYELSE", SECRET):
            assert word not in str(caught.value)
        assert caught.value.__cause__ is None
    assert time.monotonic() - began < 20
    if trouble == "silence":
        listening.close()
