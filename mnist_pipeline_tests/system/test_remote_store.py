"""The whole pipeline with its store in a bucket."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mnist_pipeline.incremental import files
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.support.browser import browser
from mnist_pipeline_tests.support.clones import ASSETS, NEVER_REUSED, Forked
from mnist_pipeline_tests.support.s3_server import BUCKET, KEY, SECRET, S3Server, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with serve() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def test_everything_works_in_a_bucket_as_it_does_in_a_folder(
    server: S3Server, forked: Forked, furnished: House
) -> None:
    root = f"s3://{BUCKET}/pipeline"
    there = server.environment | {
        "MNIST_DATA_DIR": root,
        "DAGSTER_HOME": str(forked.data / "dagster_home"),
    }

    def command(*arguments: str) -> Any:
        completed = forked.cli(*arguments, "--json", **there)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return json.loads(completed.stdout)

    with server.watched() as asked:
        assert set(command("run")["materialized"]) == ASSETS
        refreshed = command("refresh")
    assert (refreshed["materialized"], refreshed["reused"]) == ([], [])
    assert asked["ListObjects"] == 0
    assert asked["PutObject"] == len(ASSETS)
    with server.watched() as asked:
        found = command("status")["assets"]
    # that of the champion's model is looked for, too
    assert asked == {"HeadObject": len(ASSETS) + 2}
    assert {one["status"] for one in found} == {"fresh"}
    assert {one["key"]: one["data_version"] for one in found} == furnished.versions()

    # an earlier result is reused without being read
    with server.watched() as asked:
        again = command("run")
    assert set(again["reused"]) == ASSETS - NEVER_REUSED
    assert asked["PutObject"] == 0
    assert command("gc", "--keep", "1")["removed"] == []

    for one in found:
        local = furnished.made(one["key"])
        if one["path"].endswith(".parquet"):
            assert (
                one["path"] == f"{root}/{one['key']}/{local.metadata['sha256']}/{local.path.name}"
            )
            read = pd.read_parquet(one["path"])
            pd.testing.assert_frame_equal(read, pd.read_parquet(local.path))

    opened = forked.folder / "opened"
    shown = forked.cli("report", "--open", **there, **browser(opened), TMPDIR=str(forked.folder))
    assert shown.stdout.startswith(f"{root}/report/")
    copy = Path(opened.read_text().removeprefix("file://"))
    assert files.sha256(copy) == Path(shown.stdout).parent.name

    with server.watched() as asked:
        command("champion")
    assert asked == {}, "it is in the history"
    kept = [file for file in Path(forked.folder).rglob("*") if file.is_file()]
    written = b"".join(file.read_bytes() for file in kept)
    assert written
    assert SECRET.encode() not in written
    assert KEY.encode() not in written
