"""The store: a version is published whole, kept as it is, and never read when it is not."""

import hashlib
import os
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import LEFT_SECONDS, SUMS, Artifact, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, data: bytes = b"bytes", version: str = "v1") -> Artifact:
    return store.publish("train_set", version, "train_set.parquet", data)


def read(store: Store, artifact: Artifact) -> bytes:
    return store.read(artifact)


def entries(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "train_set").iterdir())


def test_what_was_published_is_read_back_from_its_place(store: Store) -> None:
    artifact = publish(store)
    assert artifact.path == store.root / "train_set" / "v1" / "train_set.parquet"
    assert read(store, artifact) == b"bytes"
    assert store.find("train_set", "v1") == artifact


def test_the_digests_beside_a_file_are_those_of_sha256sum(store: Store) -> None:
    folder = publish(store).path.parent
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=str(folder), check=True)


def test_of_the_same_version_the_first_bytes_stay(store: Store) -> None:
    first = publish(store, b"one framing")
    changed = first.path.stat().st_mtime_ns
    second = publish(store, b"another framing of the same content")
    assert second == first
    assert first.path.stat().st_mtime_ns == changed
    assert entries(store) == ["v1"]


@pytest.mark.parametrize("damage", ["bytes", "sums", "gone", "no sums"])
def test_a_damaged_version_is_set_aside_and_published_anew(store: Store, damage: str) -> None:
    path = publish(store).path
    match damage:
        case "bytes":
            path.write_bytes(b"bytez")
        case "sums":
            path.with_name(SUMS).write_bytes(b"\xff\x00")
        case "gone":
            path.unlink()
        case "no sums":
            path.with_name(SUMS).unlink()
    assert store.find("train_set", "v1") is None
    assert read(store, publish(store)) == b"bytes"
    assert entries(store) == ["v1", "v1.damaged-1"]


def test_a_file_that_is_gone_is_refused_with_the_asset_to_materialize(store: Store) -> None:
    artifact = publish(store)
    artifact.path.unlink()
    with pytest.raises(
        StoreError, match=r"train_set is gone from the store.*Materialize train_set"
    ):
        read(store, artifact)


@pytest.mark.parametrize("data", [b"bytez", b"byte", b"bytes and more", b""])
def test_bytes_that_are_not_the_recorded_ones_are_refused(store: Store, data: bytes) -> None:
    artifact = publish(store)
    artifact.path.write_bytes(data)
    with pytest.raises(StoreError, match=r"train_set is damaged: .*Materialize train_set"):
        read(store, artifact)


def test_a_disk_that_refuses_to_write_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish(store)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*v2.*No space left on device"):
        publish(store, b"new", "v2")
    assert entries(store) == ["v1"]
    assert read(store, artifact) == b"bytes"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_bytes_and_folders_are_flushed_to_disk_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def watched_rename(beside: str, folder: str) -> None:
        steps.append(f"{Path(beside).name} becomes {Path(folder).name}")
        rename(beside, folder)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    publish(store)
    beside = steps[3]
    assert beside.startswith(".v1.")
    assert steps == [
        "store",
        "train_set.parquet",
        SUMS,
        beside,
        f"{beside} becomes v1",
        "train_set",
    ]


def test_what_another_publishes_in_between_is_never_set_aside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    find = Store.find

    def slow_find(self: Store, asset: str, version: str) -> Artifact | None:
        nonlocal looks
        found = find(self, asset, version)
        looks += 1
        if looks == 1:
            others.append(pool.submit(publish, store, b"theirs"))
            time.sleep(0.3)
        return found

    others: list[Future[Artifact]] = []
    monkeypatch.setattr(Store, "find", slow_find)
    with ThreadPoolExecutor(1) as pool:
        ours = publish(store, b"ours")
        theirs = others[0].result()
    assert ours == theirs
    assert read(store, ours) == b"ours"
    assert entries(store) == ["v1"]


def test_many_writers_of_one_version_end_with_one_whole_artifact(store: Store) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        artifacts = list(pool.map(lambda data: publish(store, data), contents))
    assert len(set(artifacts)) == 1
    assert read(store, artifacts[0]) in contents
    assert entries(store) == ["v1"]


def test_what_a_killed_writer_left_is_never_read_and_swept_by_age(store: Store) -> None:
    left = store.root / "train_set" / ".v1.abc.tmp"
    young = store.root / "train_set" / ".v1.def.tmp"
    for folder in (left, young):
        folder.mkdir(parents=True)
        (folder / "train_set.parquet").write_bytes(b"half")
    an_hour_ago = time.time() - LEFT_SECONDS - 1
    os.utime(str(left), (an_hour_ago, an_hour_ago))
    assert store.find("train_set", "v1") is None
    publish(store)
    left.mkdir(exist_ok=True)
    os.utime(str(left), (an_hour_ago, an_hour_ago))
    publish(store)  # the same again
    assert not left.exists()
    assert young.exists(), "somebody without locks, on another machine, may be at work in it"


def test_a_foreign_file_with_a_digest_of_its_own_is_set_aside(store: Store) -> None:
    planted = store.publish("train_set", "v1", "train_set.parquet", b"planted")
    ours = store.publish("train_set", "v1", "train_set.parquet", b"ours", lambda sha256: False)
    assert read(store, ours) == b"ours"
    assert entries(store) == ["v1", "v1.damaged-1"]
    assert (
        store.root / "train_set" / "v1.damaged-1" / planted.path.name
    ).read_bytes() == b"planted"
    # other bytes of the same version, once published, stay
    known = {ours.sha256}.__contains__
    assert store.publish("train_set", "v1", "train_set.parquet", b"o", known) == ours
    # under another name they are not what the version is kept as
    other = store.publish("train_set", "v1", "other.parquet", b"ours")
    assert other.path.name == "other.parquet"


def test_a_digest_that_leads_elsewhere_leads_nowhere(store: Store, tmp_path: Path) -> None:
    publish(store)
    secret = tmp_path / "secret"
    secret.write_bytes(b"bytes")
    for name in ("../../../secret", str(secret)):
        sums = f"{hashlib.sha256(b'bytes').hexdigest()}  {name}\n"
        (store.root / "train_set" / "v1" / SUMS).write_text(sums)
        assert store.find("train_set", "v1") is None


def test_a_file_of_another_size_is_not_read_however_large(store: Store) -> None:
    artifact = publish(store)
    with artifact.path.open("wb") as file:
        file.truncate(1 << 43)  # more than any memory, and no room on the disk
    with pytest.raises(StoreError, match=r"train_set is damaged: .* has 8,796,093,022,208 bytes"):
        store.read(artifact)


def test_what_is_no_file_is_none(store: Store) -> None:
    artifact = publish(store)
    artifact.path.unlink()
    os.mkfifo(str(artifact.path))
    assert store.find("train_set", "v1") is None
    with pytest.raises(StoreError, match="train_set is gone"):
        store.read(artifact)
    assert publish(store).path.read_bytes() == b"bytes"


@pytest.mark.parametrize("kind", ["dangling", "loop", "elsewhere", "file", "fifo for sums"])
def test_whatever_lies_in_the_place_of_a_version_is_set_aside_and_can_be_cleared(
    kind: str, store: Store, tmp_path: Path
) -> None:
    (store.root / "train_set").mkdir(parents=True)
    place = store.root / "train_set" / "v1"
    (outside := tmp_path / "outside").mkdir()
    match kind:
        case "dangling":
            place.symlink_to("nowhere")
        case "loop":
            place.symlink_to("v1")
        case "elsewhere":
            place.symlink_to(outside)
        case "file":
            place.write_bytes(b"no folder")
        case _:
            place.mkdir()
            os.mkfifo(str(place / SUMS))
    gone = Artifact("train_set", "v1", place / "train_set.parquet", 5, "0" * 64)
    assert store.size(gone) is None
    with pytest.raises(StoreError, match="train_set is gone"):
        store.read(gone)
    ours = publish(store)
    assert read(store, ours) == b"bytes"
    [cleared] = store.leftovers("train_set", lambda: ["v1"], remove=True)
    assert cleared.path.name == "v1.damaged-1"
    assert entries(store) == ["v1"]
    assert outside.is_dir()


def test_a_finished_file_is_published_as_its_bytes_would_be(store: Store, tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.write_bytes(b"bytes")
    of_file = store.publish("train_set", "v1", "train_set.parquet", finished)
    assert read(store, of_file) == b"bytes"
    assert not finished.exists(), "it was moved, whatever its size"
    # of the same version what is there stays, also as a file and under other bytes
    finished.write_bytes(b"other")
    assert store.publish("train_set", "v1", "train_set.parquet", finished) == of_file
    # what has been damaged is set aside
    Path(str(of_file.path)).write_bytes(b"bytez")
    assert store.publish("train_set", "v1", "train_set.parquet", finished).size == 5
    assert entries(store) == ["v1", "v1.damaged-1"]


def test_parts_of_an_artifact_are_read_as_a_file_that_was_verified(store: Store) -> None:
    artifact = publish(store, b"0123456789")
    with store.reader(artifact) as file:
        file.seek(7)
        assert file.read(2) == b"78"
    with store.local(artifact) as path:
        assert path == artifact.path
        assert path.read_bytes() == b"0123456789"


@pytest.mark.parametrize("data", [b"bytez", b"byte", None])
def test_nothing_is_read_of_what_is_not_as_recorded(store: Store, data: bytes | None) -> None:
    artifact = publish(store)
    path = Path(str(artifact.path))
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    for opened in (store.reader(artifact), store.local(artifact)):
        with pytest.raises(StoreError, match=r"Materialize train_set"), opened:
            pytest.fail("it was given")


def test_what_fails_while_an_artifact_is_read_is_not_said_of_the_store(store: Store) -> None:
    artifact = publish(store)
    with pytest.raises(OSError, match=r"^of somebody else$"), store.reader(artifact):
        raise OSError("of somebody else")
