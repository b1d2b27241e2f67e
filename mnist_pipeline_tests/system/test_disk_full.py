"""A disk with no room left, a real one: a small tmpfs, where the tests may mount one."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_pipeline_tests.conftest import NEUTRAL, house_of
from mnist_pipeline_tests.support.processes import Processes

ROOM = 500_000
"""Bytes: too few for the training digits."""


@pytest.fixture
def disk(tmp_path: Path, _furnished: Path) -> Iterator[Path]:
    """A disk of its own with everything made once from the sample."""
    point = tmp_path / "disk"
    point.mkdir()
    used = sum(file.stat().st_size for file in _furnished.rglob("*") if file.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={2 * used + 30_000_000}", "tmpfs", str(point)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("A FULL DISK WAS NOT TRIED: that needs a tmpfs, and this user may mount none")
    try:
        shutil.copytree(_furnished, point / "data")
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def fill(disk: Path, room: int) -> Path:
    """Leave just so many bytes of room."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    block = bytes(1 << 16)
    with filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > room + len(block):
            file.write(block)
        with contextlib.suppress(OSError):
            while not room:
                file.write(block)
    return filler


def contents(data: Path) -> dict[str, str]:
    """The digest of every published file."""
    files = [file for file in data.glob("*/[!.]*/*") if "dagster_home" not in file.parts]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_full_disk_is_one_clear_error_loses_nothing_and_is_over_when_there_is_room(
    disk: Path, tmp_path: Path
) -> None:
    params = tmp_path / "params.toml"
    params.write_text("[split]\nrandom_state = 7\n")
    environment = NEUTRAL | house_of(disk / "data")
    as_before = Processes(tmp_path / "as_before", environment)
    other = Processes(tmp_path / "other", environment | {"MNIST_PARAMS": str(params)})
    shutil.copytree(disk / "data" / "dagster_home", tmp_path / "home")
    elsewhere = other.environment | {"DAGSTER_HOME": str(tmp_path / "home")}
    before = contents(disk / "data")

    # the history, on another disk, has room; the store has not
    filler = fill(disk, ROOM)
    failed = Processes(tmp_path / "elsewhere", elsewhere).start("run", "--json")
    assert failed.status() == 1
    error = json.loads(failed.out)["error"]
    assert f"cannot write {disk / 'data'}/train_set/" in error
    assert "train_set.parquet: No space left on device. Nothing was published; make room" in error
    assert "Traceback" not in failed.err
    assert before.items() <= contents(disk / "data").items()
    assert not list(disk.glob("data/train_set/.*.tmp")), "what was half-written is gone"
    before = contents(disk / "data")

    # nor has the history
    fill(disk, 0)
    failed = other.start("refresh", "--json")
    assert failed.status() == 1
    error = json.loads(failed.out)["error"]
    assert "disk" in error
    assert "ake room" in error
    assert "Traceback" not in failed.err
    assert contents(disk / "data") == before

    filler.unlink()
    statuses = as_before.run("status", "--verify", "--json").document()["assets"]
    assert {asset["status"] for asset in statuses} == {"fresh"}
    assert len(other.run("refresh", "--json").document()["fresh"]) == len(statuses)
    assert before.items() <= contents(disk / "data").items()
