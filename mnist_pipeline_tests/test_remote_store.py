"""The whole pipeline with its store in a bucket."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mnist_pipeline.incremental.s3 import S3Store
from mnist_pipeline.incremental.store import open_store
from mnist_pipeline.settings import Settings
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.processes import Forked
from mnist_pipeline_tests.s3_server import BUCKET, KEY, SECRET, S3Server, serve


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
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    found = open_store(Settings.load(MNIST_DATA_DIR=url).data_dir, locks=tmp_path)
    assert isinstance(found, S3Store)
    return found


def _everything_said(*places: Path) -> bytes:
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert files
    return b"".join(file.read_bytes() for file in files)


def test_everything_works_in_a_bucket_as_it_does_in_a_folder(
    store: S3Store, server: S3Server, forked: Forked, furnished: House
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

    for one in stood["assets"]:
        assert re.match(f"{store.root}/{one['key']}/[0-9a-f]{{64}}/", one["path"])
        if one["path"].endswith(".parquet"):
            read = pd.read_parquet(one["path"])
            pd.testing.assert_frame_equal(read, pd.read_parquet(furnished.made(one["key"]).path))

    with server.watched() as asked:
        command("champion", "--json")
    assert asked == {}, "it is in the history"
    assert command("gc", "--keep", "1", "--json")["removed"] == []

    said = _everything_said(forked.folder)
    assert SECRET.encode() not in said
    assert KEY.encode() not in said
