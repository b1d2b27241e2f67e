"""The store in a bucket: what the local store promises, over HTTP, with a server that can fail."""

import json
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

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_pipeline.incremental import bucket, remote_store
from mnist_pipeline.incremental.artifacts import SUMS, Artifact
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.remote_store import RemoteStore
from mnist_pipeline.incremental.store import open_store
from mnist_pipeline.settings import PROJECT, Settings
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.s3_server import BUCKET, KEY, SECRET, Answer, S3Server, serve

FILE = "train_set.parquet"


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
def store(server: S3Server, tmp_path: Path) -> RemoteStore:
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    found = open_store(Settings.load(MNIST_DATA_DIR=url).data_dir, locks=tmp_path)
    assert isinstance(found, RemoteStore)
    return found


def publish(store: RemoteStore, data: bytes | Path = b"bytes", version: str = "v1") -> Artifact:
    return store.publish("train_set", version, FILE, data)


def prefix(store: RemoteStore) -> str:
    return store.root.path.removeprefix(f"{BUCKET}/") + "/train_set/"


def put(store: RemoteStore, server: S3Server, name: str, data: bytes, **more: Any) -> None:
    server.client.put_object(Bucket=BUCKET, Key=prefix(store) + name, Body=data, **more)


def test_what_was_published_is_read_back_from_its_place(
    store: RemoteStore, server: S3Server
) -> None:
    artifact = publish(store)
    assert str(artifact.path) == f"{store.root}/train_set/v1/{FILE}"
    assert store.read(artifact) == b"bytes"
    assert store.size(artifact) == 5
    assert store.find("train_set", "v1") == artifact
    assert server.keys(prefix(store)) == [f"v1/{SUMS}", f"v1/{FILE}"]


def test_of_the_same_version_the_first_bytes_stay_and_nothing_is_listed(
    store: RemoteStore, server: S3Server
) -> None:
    with server.watched() as asked:
        first = publish(store, b"one framing")
        assert publish(store, b"another framing of the same content") == first
        assert store.read(first) == b"one framing"
        assert store.find("train_set", "never made") is None
    assert asked["ListObjects"] == 0
    # file, sums, and once for each process: does the server refuse what it must
    assert asked["PutObject"] == 3


@pytest.mark.parametrize("damage", ["bytes", "same metadata", "sums", "empty sums", "gone"])
def test_a_damaged_version_is_set_aside_by_the_server_and_published_anew(
    store: RemoteStore, server: S3Server, damage: str
) -> None:
    artifact = publish(store)
    match damage:
        case "bytes":
            put(store, server, f"v1/{FILE}", b"bytez")
        case "same metadata":
            put(store, server, f"v1/{FILE}", b"bytez", Metadata={"sha256": artifact.sha256})
        case "sums":
            put(store, server, f"v1/{SUMS}", b"\xff" * 5000)
        case "empty sums":
            put(store, server, f"v1/{SUMS}", b"")
        case "gone":
            server.client.delete_object(Bucket=BUCKET, Key=f"{prefix(store)}v1/{FILE}")
    assert store.find("train_set", "v1") is None
    assert store.read(publish(store)) == b"bytes"
    aside = [name for name in server.keys(prefix(store)) if name.startswith("v1.damaged-1/")]
    assert aside == [f"v1.damaged-1/{SUMS}"] + [f"v1.damaged-1/{FILE}"] * (damage != "gone")
    if damage in {"bytes", "same metadata"}:
        key = f"{prefix(store)}v1.damaged-1/{FILE}"
        kept = server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert kept == b"bytez"


def test_foreign_bytes_with_a_digest_of_their_own_are_set_aside(
    store: RemoteStore, server: S3Server
) -> None:
    publish(store, b"planted")
    ours = store.publish("train_set", "v1", FILE, b"ours", lambda sha256: False)
    assert store.read(ours) == b"ours"
    known = {ours.sha256}.__contains__
    assert store.publish("train_set", "v1", FILE, b"other", known) == ours
    other = store.publish("train_set", "v1", "other.parquet", b"ours")
    assert other.path.name == "other.parquet"
    assert [name for name in server.keys(prefix(store)) if name.endswith(".parquet")] == [
        f"v1.damaged-1/{FILE}",
        f"v1.damaged-2/{FILE}",
        "v1/other.parquet",
    ]


@pytest.mark.parametrize("data", [b"bytez", b"byte", None])
def test_nothing_is_read_of_what_is_not_as_recorded(
    store: RemoteStore, server: S3Server, data: bytes | None
) -> None:
    artifact = publish(store)
    if data is None:
        server.client.delete_object(Bucket=BUCKET, Key=f"{prefix(store)}v1/{FILE}")
        assert store.size(artifact) is None
    else:
        put(store, server, f"v1/{FILE}", data)
    with pytest.raises(StoreError, match=r"(gone|damaged).*Materialize train_set"):
        store.read(artifact)
    for opened in (store.reader(artifact), store.local(artifact)):
        with pytest.raises(StoreError, match=r"Materialize train_set"), opened:
            pytest.fail("it was given")


def test_many_writers_of_one_version_end_with_one_whole_artifact(
    store: RemoteStore, server: S3Server
) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        artifacts = list(pool.map(lambda data: publish(store, data), contents))
    assert len(set(artifacts)) == 1
    assert store.read(artifacts[0]) in contents
    assert server.keys(prefix(store)) == [f"v1/{SUMS}", f"v1/{FILE}"]


def test_a_file_without_its_digest_is_not_found_but_taken_over_if_its_bytes_are_right(
    store: RemoteStore, server: S3Server
) -> None:
    put(store, server, f"v1/{FILE}", b"bytes")
    assert store.find("train_set", "v1") is None
    assert not store.holds("train_set")
    with server.watched() as asked:
        artifact = publish(store)
    assert asked["PutObject"] == 2, "SHA256SUMS, and the question whether it is kept"
    assert store.read(artifact) == b"bytes"
    with store.reader(artifact) as file:  # nobody gave the object a digest: all of it is read
        assert file.read() == b"bytes"


def test_a_file_whose_writer_is_at_work_is_waited_for_and_a_forsaken_one_set_aside(
    store: RemoteStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = publish(store, b"theirs")
    sums = server.client.get_object(Bucket=BUCKET, Key=f"{prefix(store)}v1/{SUMS}")["Body"].read()
    server.client.delete_object(Bucket=BUCKET, Key=f"{prefix(store)}v1/{SUMS}")
    writer = threading.Timer(0.5, lambda: put(store, server, f"v1/{SUMS}", sums))
    writer.start()
    assert publish(store, b"ours") == theirs
    writer.join()
    server.client.delete_object(Bucket=BUCKET, Key=f"{prefix(store)}v1/{SUMS}")
    monkeypatch.setattr(remote_store, "UNFINISHED_SECONDS", 0.0)
    assert store.read(publish(store, b"ours")) == b"ours"
    assert f"v1.damaged-1/{FILE}" in server.keys(prefix(store))


_PUBLISHES = """
import sys
from pathlib import Path
from mnist_pipeline.settings import Settings
from mnist_pipeline.incremental.store import open_store
store = open_store(Settings.load().data_dir, locks=Path("."))
store.publish("train_set", "v1", "train_set.parquet", Path(sys.argv[1]))
"""


def test_a_writer_killed_in_the_middle_of_an_upload_leaves_nothing_to_see(
    store: RemoteStore, server: S3Server, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(1 << 20) * 36)
    data = file.read_bytes()
    writers: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def kill(operation: str, environ: dict[str, Any]) -> Answer | None:
        if operation == "CompleteMultipartUpload":
            ready.wait(10)
            writers[0].kill()
            writers[0].wait(10)
            return "500 Internal Server Error", b""
        return None

    server.before = kill
    writers.append(
        subprocess.Popen(
            [sys.executable, "-c", _PUBLISHES, str(file)],
            env=os.environ | {"MNIST_DATA_DIR": str(store.root), "PYTHONPATH": str(PROJECT)},
        )
    )
    ready.set()
    assert writers[0].wait(60) == -9
    server.before = lambda operation, environ: None
    assert server.keys(prefix(store)) == []
    assert store.find("train_set", "v1") is None
    with server.watched() as asked:
        artifact = publish(store, file)
    assert asked["UploadPart"] == 3
    assert store.read(artifact) == data
    with store.local(artifact) as path:
        assert path.read_bytes() == data
    assert not path.exists()


def test_one_column_of_a_large_file_moves_few_of_its_bytes(
    store: RemoteStore, server: S3Server, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    columns = {f"c{number}": rng.integers(0, 1 << 62, 40_000) for number in range(40)}
    pq.write_table(pa.table(columns), tmp_path / FILE, row_group_size=10_000)
    artifact = publish(store, tmp_path / FILE)
    start = server.sent
    with server.watched() as asked, store.reader(artifact) as file:
        read = pq.ParquetFile(file, pre_buffer=True).read(columns=["c7"])
        group = pq.ParquetFile(file, pre_buffer=True).read_row_group(2, columns=["c9"])
    assert np.array_equal(read["c7"], columns["c7"])
    assert np.array_equal(group["c9"], columns["c9"][20_000:30_000])
    assert artifact.size > 12_000_000
    assert server.sent - start < artifact.size / 4
    assert asked["ListObjects"] == 0


def test_an_object_that_is_replaced_while_it_is_read_is_refused(
    store: RemoteStore, server: S3Server
) -> None:
    artifact = publish(store, bytes(3 << 20))
    with (  # noqa: PT012
        pytest.raises(StoreError, match="replaced while it was read"),
        store.reader(artifact) as file,
    ):
        file.read(10)
        put(store, server, f"v1/{FILE}", bytes(3 << 20) + b"1")
        file.seek(2 << 20)
        file.read(10)


def test_a_process_that_was_forked_from_a_reader_reads_too(store: RemoteStore) -> None:
    artifact = publish(store)
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read(artifact) == b"bytes" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_nothing_points_at_is_listed_and_removed_and_nothing_else(
    store: RemoteStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v1", "v2"):
        publish(store, version=version)
    put(store, server, "v0.damaged-3/x", b"1")
    put(store, server, f"v3/{FILE}", b"forsaken", Metadata={"sha256": "0"})
    put(store, server, "notes/by hand", b"1")
    # an hour later
    monkeypatch.setattr(remote_store, "LEFT_SECONDS", -60.0)
    for remove in (False, True):
        found = store.leftovers("train_set", lambda: ["v2"], remove=remove)
        assert [(one.path.name, one.size) for one in found] == [
            ("v0.damaged-3", 1),
            ("v1", 5 + 64 + 2 + len(FILE) + 1),
            ("v3", 8),
        ]
    assert server.keys(prefix(store)) == ["notes/by hand", f"v2/{SUMS}", f"v2/{FILE}"]


def test_a_server_that_stops_taking_an_upload_is_given_up(
    store: RemoteStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def stop(operation: str, environ: dict[str, Any]) -> None:
        if operation == "PutObject":
            goes_on.wait(30)

    server.before = stop
    monkeypatch.setattr(bucket, "_WRITE_SECONDS", 0.2)
    monkeypatch.setattr(bucket, "_LEAST_BYTES_A_SECOND", 20 << 20)
    began = time.monotonic()
    with pytest.raises(StoreError, match="the server does not answer"):
        publish(store, bytes(20 << 20))  # more than the sockets on the way hold
    assert time.monotonic() - began < 8
    goes_on.set()


def test_a_server_that_writes_over_what_is_there_is_refused(
    store: RemoteStore, server: S3Server
) -> None:
    def forget(operation: str, environ: dict[str, Any]) -> None:
        environ.pop("HTTP_IF_NONE_MATCH", None)

    server.before = forget
    # also whoever tries again: another process, with what the first one left in place
    for again in (store, RemoteStore(store.root, store.locks)):
        with pytest.raises(StoreError, match=r"If-None-Match.*conditional writes"):
            publish(again)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("no credentials", "there are no credentials. Set AWS_ACCESS_KEY_ID"),
        ("another key", r"the server refuses \((403|InvalidAccessKeyId)\)"),
        ("no bucket", "there is no such bucket. Make it"),
        ("nobody there", "the server does not answer. Look at the network"),
        ("silence", "the server does not answer. Look at the network"),
        ("failing", "the server answers (500|InternalError)"),
    ],
)
def test_what_keeps_it_from_its_bucket_is_said_in_one_message_in_time(
    trouble: str,
    said: str,
    store: RemoteStore,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = publish(store)
    monkeypatch.setattr(bucket, "_READ_SECONDS", 0.2)
    monkeypatch.setattr(bucket, "_ATTEMPTS", 1)
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
    troubled = open_store(Settings.load(MNIST_DATA_DIR=url).data_dir, locks=tmp_path)
    path = troubled.root / "train_set" / "v1" / FILE
    artifact = Artifact("train_set", "v1", path, 5, published.sha256)
    began = time.monotonic()
    for act in (
        lambda: troubled.publish("train_set", "v2", FILE, b"new"),
        lambda: troubled.size(artifact),
    ):
        with pytest.raises(StoreError, match=rf"^cannot use {url}/train_set.*{said}") as caught:
            act()
        assert "\n" not in str(caught.value)
        for word in (KEY, "AKIDSOMEBODYELSE", SECRET):
            assert word not in str(caught.value)
        assert caught.value.__cause__ is None
    assert time.monotonic() - began < 20
    if trouble == "silence":
        listening.close()


def _everything_said(*places: Path) -> bytes:
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert files
    return b"".join(file.read_bytes() for file in files)


def test_everything_works_in_a_bucket_as_it_does_in_a_folder(
    store: RemoteStore, server: S3Server, forked: Forked, furnished: House
) -> None:
    there = server.environment | {
        "MNIST_DATA_DIR": str(store.root),
        "DAGSTER_HOME": str(forked.data / "dagster_home"),
    }

    def command(*arguments: str) -> Any:
        completed = forked.cli(*arguments, **there)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return json.loads(completed.stdout)

    with server.watched() as asked:
        run = command("run", "--json")
        refreshed = command("refresh", "--json")
    with server.watched() as looked:
        stood = command("status", "--json")
    assert run["status"] == "success"
    assert refreshed["materialized"] == []
    assert asked["ListObjects"] == 0
    assert looked == {"HeadObject": len(stood["assets"])}
    assert {one["status"] for one in stood["assets"]} == {"fresh"}
    made = {one["key"]: one["data_version"] for one in stood["assets"]}
    assert made == furnished.versions()

    options = {"key": KEY, "secret": SECRET, "endpoint_url": server.url}
    for one in stood["assets"]:
        assert one["path"].startswith(f"{store.root}/{one['key']}/{one['data_version']}/")
        if one["path"].endswith(".parquet"):
            read = pd.read_parquet(one["path"], storage_options=options)
            pd.testing.assert_frame_equal(read, pd.read_parquet(furnished.made(one["key"]).path))

    with server.watched() as asked:
        command("champion", "--json")
    assert asked == {}, "it is in the history"
    assert command("gc", "--keep", "1", "--json")["removed"] == []

    said = _everything_said(forked.folder)
    assert SECRET.encode() not in said
    assert KEY.encode() not in said
