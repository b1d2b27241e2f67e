"""All 70,000 digits through the command line, from a loopback OpenML."""

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline_tests.conftest import House, open_house
from mnist_pipeline_tests.support.openml_server import OpenML, serve


def test_all_of_mnist_goes_from_download_to_report(
    full_size: Path, genuine: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert int((full_size / "peak_kb").read_text()) < 900_000
    with open_house(full_size, monkeypatch) as house:
        is_right(house, genuine)


def is_right(house: House, genuine: Archive) -> None:
    assert house.check("train_set", "is_mnist").passed
    assert house.check("test_set", "is_mnist").passed

    train = pd.read_parquet(house.made("train_set").path)
    test = pd.read_parquet(house.made("test_set").path)
    assert (len(train), len(test)) == (56_000, 14_000)
    assert train["class"].iloc[0] == 5
    assert test["class"].head(3).tolist() == [8, 4, 8]
    assert test["class"].tail(3).tolist() == [2, 7, 1]

    table = decode(genuine)
    for part in (train, test):
        pixels = part.filter(like="pixel").to_numpy()
        np.testing.assert_array_equal(pixels, table.pixels[part["row_id"]])
        np.testing.assert_array_equal(part["class"], table.labels[part["row_id"]])
    both = f"read_parquet(['{house.made('train_set').path}', '{house.made('test_set').path}'])"
    query = f"SELECT count(*), count(DISTINCT row_id), sum(pixel407) FROM {both}"
    assert duckdb.connect().execute(query).fetchone() == (
        70_000,
        70_000,
        int(table.pixels[:, 406].sum(dtype=np.int64)),
    )

    evaluation = json.loads(house.made("evaluation").path.read_bytes())
    assert house.made("report").path.stat().st_size < 4_000_000
    assert evaluation["accuracy"] >= 0.988
    assert evaluation["ece"] <= 0.01
    assert evaluation["n_test"] == 14_000
    assert evaluation["mnist_test"]["n"] == int((test["row_id"] >= 60_000).sum())


@pytest.mark.slow
def test_the_tutorial_preset_prints_what_the_tutorial_prints(
    house: House, genuine_openml: OpenML, params: Callable[[str], str]
) -> None:
    variables = {
        "MNIST_SOURCE": "openml",
        "MNIST_PARAMS": params('[model]\npreset = "tutorial"\nrandom_state = 0\n'),
    }
    with serve(genuine_openml) as server:
        variables["MNIST_OPENML_SERVER"] = server.url
        completed = house.process("run", "--json", variables=variables, timeout=900)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    predictions = pd.read_parquet(house.made("predictions").path)
    printed = str(predictions["prediction"].to_numpy().astype(str))
    assert printed == "['8' '4' '8' ... '2' '7' '1']"
    assert house.made("predictions").metadata["printed"] == printed
    assert 0.86 < house.made("evaluation").metadata["accuracy"] < 0.89
