"""The store in a folder: files are there whole or not at all, and never read when damaged."""

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.incremental import files
from mnist_pipeline.incremental.errors import StoreError
from mnist_pipeline.incremental.store import Artifact, DamagedError, Garbage, Store, open_store

DATA = b"0123456789"
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, data: bytes | Path = DATA) -> Artifact:
    return store.publish("clean", "clean.parquet", data)


def path_of(artifact: Artifact) -> Path:
    return Path(str(artifact.path))


def entries(store: Store) -> list[str]:
    root = Path(str(store.root))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def put(path: Path, data: bytes = b"x", hours: float = 0) -> Path:
    """Write a file as another program would, so many hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for one in (path, path.parent) if hours else ():
        os.utime(one, (time.time() - hours * 3600,) * 2)
    return path


def fork(act: Callable[[], object]) -> int:
    """Run this in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait for a process; return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_change(number: int, act: Callable[[], None]) -> None:
    """Act just before the so-manyth change of names or flush of this process."""
    left, fsync = number, os.fsync

    def one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            act()

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        writes = name == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes or name in {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}:
            one()

    def watched(descriptor: Any) -> None:
        one()
        fsync(descriptor)

    os.fsync = watched  # type: ignore[assignment]
    sys.addaudithook(audit)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_published_is_read_back_from_a_folder_named_by_its_digest(store: Store) -> None:
    artifact = publish(store)
    assert artifact.path == store.root / "clean" / NAME / "clean.parquet"
    assert artifact == store.artifact("clean", NAME, "clean.parquet", len(DATA))
    assert (artifact.sha256, artifact.size, artifact.filename) == (NAME, 10, "clean.parquet")
    assert store.read(artifact) == DATA
    assert store.size(artifact) == 10
    assert store.is_intact(artifact)
    printed = subprocess.run(
        ["sha256sum", str(artifact.path)], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split()[0] == artifact.sha256
    assert entries(store) == ["clean", f"clean/{NAME}", f"clean/{NAME}/clean.parquet"]


def test_other_bytes_are_another_artifact_and_both_stay(store: Store) -> None:
    first, second = publish(store), publish(store, b"other")
    assert (store.read(first), store.read(second)) == (DATA, b"other")


def test_an_empty_file_is_an_artifact_too(store: Store) -> None:
    assert store.read(publish(store, b"")) == b""


def test_publishing_what_is_intact_writes_nothing(store: Store, tmp_path: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        found = [Path(str(store.root)), *Path(str(store.root)).rglob("*")]
        return [(str(one), one.stat().st_ino, one.stat().st_mtime_ns) for one in sorted(found)]

    publish(store)
    finished = put(tmp_path / "finished", DATA)
    before = state()

    def again() -> None:
        at_change(1, kill)
        publish(store)
        publish(store, finished)

    assert ended(fork(again)) == 0
    assert state() == before


def _damage(path: Path, damage: str, outside: Path) -> None:
    """Put something else where an artifact is."""
    folder = path.parent
    if damage.startswith("folder"):
        shutil.rmtree(folder)
    else:
        path.unlink()
    match damage:
        case "missing" | "folder missing":
            pass
        case "same size":
            path.write_bytes(DATA[::-1])
        case "shorter":
            path.write_bytes(DATA[:-1])
        case "longer":
            path.write_bytes(DATA + b"0")
        case "empty":
            path.touch()
        case "link to the same bytes":
            path.symlink_to(put(outside / "same", DATA))
        case "link to nowhere":
            path.symlink_to("nowhere")
        case "link to itself":
            path.symlink_to(path.name)
        case "a folder":
            put(path / "clean.parquet", DATA)
        case "pipe":
            os.mkfifo(path)
        case "folder is a file":
            folder.write_bytes(DATA)
        case "folder is a link to another":
            put(outside / path.name, DATA)
            folder.symlink_to(outside)
        case "folder is a link to nowhere":
            folder.symlink_to("nowhere")
        case "folder is a link to itself":
            folder.symlink_to(folder.name)


DAMAGES = [
    "missing",
    "folder missing",
    "same size",
    "shorter",
    "longer",
    "empty",
    "link to the same bytes",
    "link to nowhere",
    "link to itself",
    "a folder",
    "pipe",
    "folder is a file",
    "folder is a link to another",
    "folder is a link to nowhere",
    "folder is a link to itself",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_before_any_reader_and_repaired_in_place_by_publishing(
    damage: str, store: Store, tmp_path: Path
) -> None:
    artifact = publish(store)
    other = publish(store, b"other")
    outside = tmp_path / "outside"
    kept = put(outside / "kept")
    _damage(path_of(artifact), damage, outside)

    assert not store.is_intact(artifact)
    assert store.size(artifact) in {None, 0, 9, 10, 11}
    with pytest.raises(DamagedError, match=r"^clean is (missing|damaged).* Materialize clean\.$"):
        store.read(artifact)
    with pytest.raises(DamagedError, match=r"Materialize clean"), store.local(artifact):
        pytest.fail("it was given")

    assert publish(store) == artifact
    assert store.read(artifact) == DATA
    assert not path_of(artifact).is_symlink()
    assert not path_of(artifact).parent.is_symlink()
    assert store.read(other) == b"other"
    assert kept.read_bytes() == b"x"
    assert len(entries(store)) == 5, "nothing else is left"


def test_a_message_about_damage_has_the_path_what_was_found_and_what_was_recorded(
    store: Store,
) -> None:
    artifact = publish(store)
    path_of(artifact).write_bytes(DATA[::-1])
    other = hashlib.sha256(DATA[::-1]).hexdigest()
    with pytest.raises(DamagedError) as caught:
        store.read(artifact)
    assert str(caught.value) == (
        f"clean is damaged: {artifact.path} has 10 bytes with sha256 {other}, recorded were 10 "
        f"with {NAME}. Materialize clean."
    )
    path_of(artifact).unlink()
    with pytest.raises(DamagedError) as caught:
        store.read(artifact)
    assert str(caught.value) == (
        f"clean is missing from the store: {artifact.path} is not a file. Materialize clean."
    )


def test_a_file_of_another_size_is_not_read_however_large(store: Store) -> None:
    artifact = publish(store)
    with path_of(artifact).open("wb") as file:
        file.truncate(1 << 43)  # more than any memory, and no room on the disk
    assert not store.is_intact(artifact)
    with pytest.raises(
        StoreError, match=r"has 8,796,093,022,208 bytes, not read, recorded were 10"
    ):
        store.read(artifact)
    assert store.read(publish(store)) == DATA


@pytest.mark.parametrize("kind", ["bytes", "file", "over damage"])
def test_a_writer_killed_at_any_moment_leaves_the_old_state_or_the_new(
    kind: str, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    damaged = bytes(300_000)
    killed = 0
    for number in range(1, 100):
        store = Store(tmp_path / f"{number}" / "store")
        kept = publish(store, b"kept")
        artifact = store.artifact(
            "clean", hashlib.sha256(data).hexdigest(), "clean.parquet", 300_000
        )
        finished = put(tmp_path / f"{number}" / "finished", data) if kind == "file" else data
        if kind == "over damage":
            put(path_of(artifact), damaged)

        def victim(
            number: int = number, store: Store = store, data: bytes | Path = finished
        ) -> None:
            at_change(number, kill)
            publish(store, data)

        status = ended(fork(victim))
        killed += status == -signal.SIGKILL
        if store.is_intact(artifact):
            assert store.read(artifact) == data
        elif kind == "over damage":
            assert path_of(artifact).read_bytes() == damaged
        else:
            assert store.size(artifact) is None
        assert store.read(publish(store, data)) == data
        assert store.read(kept) == b"kept"
        for left in (tmp_path / f"{number}").rglob("*"):
            os.utime(left, (time.time() - 2 * files.LEFT_SECONDS,) * 2)
        store.garbage("clean", lambda: [artifact.sha256, kept.sha256], remove=True)  # noqa: B023
        assert len(entries(store)) == 5, "what was left is swept"
        if status == 0:
            break
    assert status == 0
    assert killed >= 6


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_writer_killed_in_the_middle_of_a_write_leaves_nothing_to_read(
    kind: str, store: Store, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    publish(store)
    finished: bytes | Path = data
    if kind == "file":
        other = Path("/tmp" if tmp_path.is_relative_to("/dev/shm") else "/dev/shm")
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs another file system to copy from")
        finished = put(other / f"finished-{os.getpid()}", data)

    def victim() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        publish(store, finished)

    try:
        assert ended(fork(victim)) == -signal.SIGXFSZ
    finally:
        if isinstance(finished, Path):
            finished.unlink(missing_ok=True)
    [left] = Path(str(store.root)).glob("clean/.*.tmp")
    assert left.stat().st_size == 100_000
    artifact = store.artifact("clean", hashlib.sha256(data).hexdigest(), "clean.parquet", 300_000)
    assert store.size(artifact) is None
    assert store.read(publish(store, data)) == data


def test_eight_writers_at_once_of_the_same_and_of_other_bytes_leave_whole_files_only(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    contents = [bytes([number]) * 200_000 for number in range(len(DAMAGES) + 5)]
    for data, damage in zip(contents, DAMAGES, strict=False):  # five were never published
        _damage(path_of(publish(store, data)), damage, tmp_path / "outside")
    start = tmp_path / "start"

    def writer(number: int) -> None:
        while not start.exists():
            time.sleep(0.0001)
        for turn, data in enumerate(contents):
            mine = put(tmp_path / f"finished-{number}", data) if turn % 3 == number % 3 else data
            assert store.read(publish(store, mine)) == data

    children = [fork(partial(writer, number)) for number in range(8)]
    start.touch()
    assert [ended(child) for child in children] == [0] * 8
    for data in contents:
        sha256 = hashlib.sha256(data).hexdigest()
        assert store.read(store.artifact("clean", sha256, "clean.parquet", 200_000)) == data
    assert len(entries(store)) == 1 + 2 * len(contents), "nothing else is left"


def _as_nobody(act: Callable[[], object]) -> Callable[[], None]:
    """Let this be done without the rights of root, which no permissions hold up."""

    def acted() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        act()

    return acted


def _expect(act: Callable[[], object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        act()


def test_without_permission_to_write_or_read_there_is_one_error_and_nothing_changes(
    store: Store, tmp_path: Path
) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if os.geteuid() == 0 and folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
    artifact = publish(store)
    before = entries(store)
    folder = Path(str(store.root)) / "clean"
    closed = Path(str(store.root)) / "closed"
    closed.mkdir(mode=0)
    folder.chmod(0o555)
    path_of(artifact).chmod(0)
    cannot_write = rf"^cannot write {folder}/.*Permission denied.*materialize clean again\.$"
    cannot_read = rf"^cannot read {artifact.path}: Permission denied"
    for act, message in [
        (lambda: publish(store, b"other"), cannot_write),
        (lambda: store.read(artifact), cannot_read),
        (lambda: store.is_intact(artifact), cannot_read),
        (lambda: store.garbage("clean", list, remove=True), "^cannot remove .*Permission denied"),
        (lambda: store.holds("closed"), f"^cannot list {closed}: Permission denied. Fix"),
    ]:
        child = fork(_as_nobody(lambda act=act, message=message: _expect(act, message)))  # type: ignore[misc]
        assert ended(child) == 0
    folder.chmod(0o755)
    closed.rmdir()
    assert entries(store) == before


def test_a_store_in_the_place_of_a_file_is_one_error(tmp_path: Path) -> None:
    store = open_store(put(tmp_path / "file"), locks=tmp_path)
    with pytest.raises(StoreError, match=r"^cannot write .*Nothing was published"):
        publish(store)
    assert store.garbage("clean", list, remove=True) == []
    assert not store.holds("clean")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1000000", "tmpfs", str(point)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("A FULL DISK WAS NOT TRIED: that needs a tmpfs, and this user may mount none")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_a_full_disk_is_one_error_leaves_nothing_half_written_and_is_over_when_there_is_room(
    disk: Path, tmp_path: Path
) -> None:
    store = Store(disk / "store")
    artifact = publish(store)
    filler = put(disk / "filler", bytes(700_000))
    before = entries(store)
    large = os.urandom(500_000)
    for data in (large, put(tmp_path / "large", large)):
        with pytest.raises(StoreError) as caught:
            publish(store, data)
        text = str(caught.value)
        assert text.startswith(
            f"cannot write {disk}/store/clean/{hashlib.sha256(large).hexdigest()}"
        )
        assert "clean.parquet: No space left on device. Nothing was published; make room" in text
        assert entries(store) == before
    assert store.read(artifact) == DATA
    filler.unlink()
    assert store.read(publish(store, large)) == large


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_bytes_and_names_are_flushed_to_disk_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def watched_rename(beside: Path, path: Path) -> None:
        steps.append(f"{Path(beside).name} becomes {Path(path).name}")
        rename(beside, path)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_rename)
    publish(store)
    top, root, beside, asset, *rest = steps
    assert (root, asset) == ("store", "clean")
    assert top == Path(str(store.root)).parent.name
    assert beside.startswith(".clean.parquet.")
    assert rest == [f"{beside} becomes clean.parquet", NAME, "clean"]


def test_a_finished_file_is_moved_into_the_store(store: Store, tmp_path: Path) -> None:
    finished = put(tmp_path / "finished", DATA)
    number = finished.stat().st_ino
    artifact = publish(store, finished)
    assert store.read(artifact) == DATA
    assert path_of(artifact).stat().st_ino == number, "its bytes were not copied"
    assert not finished.exists()
    linked = tmp_path / "linked"
    linked.symlink_to(put(tmp_path / "target", b"other"))
    assert store.read(publish(store, linked)) == b"other"


def test_an_artifact_is_read_in_place_as_a_file_that_was_verified(store: Store) -> None:
    artifact = publish(store)
    with store.local(artifact) as path:
        assert path == artifact.path
        assert path.read_bytes() == DATA


def test_an_error_of_the_reader_of_an_artifact_is_not_the_stores(store: Store) -> None:
    artifact = publish(store)
    with pytest.raises(OSError, match=r"^of the reader$"), store.local(artifact):
        raise OSError("of the reader")


def test_a_link_among_the_artifacts_is_refused_by_name(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", locks=tmp_path)
    folder = path_of(publish(store)).parent.parent
    (folder / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(StoreError, match=r"elsewhere is a link: the store has none. Remove it"):
        store.garbage(folder.name, list, remove=False)


def test_a_dangling_link_among_the_artifacts_does_not_stop_the_collection(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "store", locks=tmp_path)
    artifact = publish(store)
    link = path_of(artifact).parent.parent / ".x.tmp"
    link.symlink_to("nowhere")
    [removed] = store.garbage(link.parent.name, list, remove=True)
    assert removed.path.name == artifact.sha256
    assert link.is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_what_is_no_folder_in_the_place_of_an_assets_folder_is_named_and_left(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store", locks=tmp_path)
    artifact = publish(store)
    folder = path_of(artifact).parent.parent
    shutil.rmtree(folder)
    make(folder)
    for attempt in (
        lambda: store.size(artifact),
        lambda: store.read(artifact),
        lambda: publish(store),
        lambda: store.garbage("clean", list, remove=True),
    ):
        with pytest.raises(StoreError, match=f"{folder} is not a folder. Move it away, then try"):
            attempt()
    assert not folder.is_dir()


OLD = "0123456789abcdef" * 2
"""A data version, by which the layout before this one named folders."""


def _left_behind(root: Path) -> set[str]:
    """Write what killed processes leave, of a file and of a removed folder; return the names."""
    put(root / f".clean.parquet.{'a' * 32}.tmp", b"half", hours=2)
    put(root / f".{'4' * 64}.{'a' * 32}.tmp" / "clean.parquet", b"half", hours=2)
    return {f".clean.parquet.{'a' * 32}.tmp", f".{'4' * 64}.{'a' * 32}.tmp"}


def test_garbage_is_what_is_not_kept_old_layouts_what_killed_processes_left_and_nothing_else(
    store: Store,
) -> None:
    kept, gone = publish(store), publish(store, b"other")
    root = Path(str(store.root)) / "clean"
    put(root / OLD / "clean.parquet", b"old")
    put(root / OLD / "SHA256SUMS", b"sums")
    put(root / f"{OLD}.damaged-1" / "clean.parquet", b"damaged")
    expected = _left_behind(root) | {gone.sha256, OLD, f"{OLD}.damaged-1"}
    # of others, or of a writer at work
    put(root / "notes", hours=2)
    put(root / "notes.tmp", hours=2)
    put(root / ".hidden" / "file", hours=2)
    put(root / ".syncthing.clean.parquet.tmp", hours=2)
    put(root / f"{'1' * 32}" / "no sums", hours=2)
    put(root / ("2" * 64), hours=2)
    put(root / f".{'4' * 64}.{'c' * 32}.tmp" / "clean.parquet", b"half")
    put(root / f".clean.parquet.{'d' * 32}.tmp", b"half")
    below = store.publish("clean/more", "more.parquet", DATA)
    _left_behind(root / "more")
    before = set(entries(store))

    found = store.garbage("clean", lambda: [kept.sha256], remove=False)
    assert {one.path.name for one in found} == expected
    assert sorted(one.size for one in found) == [4, 4, 5, 7, 7]
    assert set(entries(store)) == before, "nothing was removed"

    assert store.garbage("clean", lambda: [kept.sha256], remove=True) == found
    removed = {f"clean/{name}" for name in expected}
    left = {one for one in before if not any(one == r or one.startswith(f"{r}/") for r in removed)}
    assert set(entries(store)) == left
    assert store.read(kept) == DATA
    assert store.read(below) == DATA
    assert len(store.garbage("clean/more", lambda: [below.sha256], remove=True)) == 2
    assert store.garbage("clean", lambda: [kept.sha256], remove=True) == []
    assert store.garbage("never made", list, remove=True) == []


@pytest.mark.parametrize("asset", ["clean", "group/clean"])
def test_a_link_in_the_place_of_an_assets_folder_is_refused_and_nothing_behind_it_touched(
    store: Store, tmp_path: Path, asset: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere / ("1" * 64) / "file", b"of another", hours=2)
    root = Path(str(store.root))
    root.mkdir()
    link = root / asset.partition("/")[0]
    link.symlink_to(elsewhere)
    there = store.artifact(asset.partition("/")[0], "1" * 64, "file", 10)
    for attempt in (
        lambda: store.size(there),
        lambda: store.is_intact(there),
        lambda: store.read(there),
        lambda: store.publish(asset, "file", DATA),
        lambda: store.garbage(asset, list, remove=True),
    ):
        with pytest.raises(StoreError, match=f"{link.name} is a link"):
            attempt()
    assert [path.name for path in elsewhere.rglob("*")] == ["1" * 64, "file"]


def test_what_became_needed_meanwhile_is_not_removed(store: Store) -> None:
    artifacts = [publish(store, data) for data in (b"1", b"2", b"3")]
    asked: list[int] = []

    def keep() -> list[str]:
        asked.append(1)
        return [artifacts[1].sha256] if len(asked) > 1 else []

    removed = store.garbage("clean", keep, remove=True)
    assert len(asked) == 4
    assert {one.path.name for one in removed} == {artifacts[0].sha256, artifacts[2].sha256}
    assert store.read(artifacts[1]) == b"2"

    def refuses() -> list[str]:
        raise StoreError("a run began")

    with pytest.raises(StoreError, match="a run began"):
        store.garbage("clean", refuses, remove=True)
    assert store.read(artifacts[1]) == b"2"


def test_a_live_writers_temporary_file_is_kept_even_if_what_it_publishes_is_old(
    store: Store, tmp_path: Path
) -> None:
    publish(store, b"garbage")
    finished = put(tmp_path / "finished", DATA, hours=5)

    def writer() -> None:
        # the file was moved and is being flushed
        at_change(2, lambda: os.kill(os.getpid(), signal.SIGSTOP))
        publish(store, finished)

    child = fork(writer)
    os.waitpid(child, os.WUNTRACED)
    [left] = Path(str(store.root)).glob("clean/.*.tmp")
    assert len(store.garbage("clean", list, remove=True)) == 1
    assert left.exists()
    os.kill(child, signal.SIGCONT)
    assert ended(child) == 0
    assert store.read(store.artifact("clean", NAME, "clean.parquet", 10)) == DATA


def test_garbage_removed_at_the_very_moment_it_is_published_again_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder = files.make_folder
    removed: list[Garbage] = []

    def overtaken(path: Path) -> None:
        make_folder(path)
        if path.name == NAME and not removed:
            removed.extend(store.garbage("clean", list, remove=True))

    monkeypatch.setattr(files, "make_folder", overtaken)
    artifact = publish(store)
    assert len(removed) == 1
    assert store.read(artifact) == DATA
    assert len(entries(store)) == 3


def test_two_collections_at_once_remove_everything_without_an_error(store: Store) -> None:
    for number in range(200):
        publish(store, b"%d" % number)

    def collect() -> None:
        store.garbage("clean", list, remove=True)

    assert [ended(child) for child in [fork(collect), fork(collect)]] == [0, 0]
    assert entries(store) == ["clean"]


def test_an_asset_is_held_when_it_has_a_file(store: Store) -> None:
    assert not store.holds("clean")
    root = Path(str(store.root)) / "clean"
    put(root / "notes")
    (root / ("0" * 64)).mkdir()
    _left_behind(root)
    assert not store.holds("clean")
    store.publish("clean/more", "file", DATA)
    assert not store.holds("clean")
    publish(store)
    assert store.holds("clean")


def test_a_store_opens_by_path_or_text_and_loads_nothing_of_s3_nor_of_the_rest(
    tmp_path: Path,
) -> None:
    for root in (tmp_path, str(tmp_path)):
        found = open_store(root, locks=tmp_path / "elsewhere")
        assert (found.root, found.locks) == (tmp_path, tmp_path)
    code = (
        "import sys, mnist_pipeline.incremental.s3\n"
        "from mnist_pipeline.incremental.store import open_store\n"
        "from pathlib import Path\n"
        "open_store(Path('data'), locks=Path('.'))\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    for name in loaded:
        assert not name.startswith(("dagster", "boto3", "botocore", "numpy"))
        if name.startswith("mnist_pipeline."):
            assert name.startswith("mnist_pipeline.incremental")


def test_an_interrupted_writer_cleans_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    publish(store, b"other")
    before = entries(store)
    monkeypatch.setattr(os, "fsync", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        publish(store)
    assert entries(store) == before


def test_a_file_is_replaced_all_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = put(tmp_path / "file", b"before")
    files.replace(path, b"after")
    assert path.read_bytes() == b"after"
    for number in range(1, 20):
        path = put(tmp_path / str(number) / "file", b"before")

        def victim(number: int = number, path: Path = path) -> None:
            at_change(number, kill)
            files.replace(path, b"after")

        if ended(fork(victim)) == 0:
            break
        assert path.read_bytes() in {b"before", b"after"}
    assert number > 3
    assert path.read_bytes() == b"after"
    assert [one.name for one in path.parent.iterdir()] == ["file"]
