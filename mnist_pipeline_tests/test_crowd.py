"""Eight processes at work on one store and history at once: all read what is recorded of them."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.assets.codecs import CODECS
from mnist_pipeline.digits import metrics, prediction
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.dataset import Digits
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.incremental._dagster import Recorded
from mnist_pipeline.incremental.store import SUMS, Store
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.processes import Processes
from mnist_pipeline_tests.test_pipeline import ASSETS

AT_ONCE = [
    ["run"],
    ["refresh"],
    ["run", "--select", "key:sgd_model"],
    ["run", "--select", "key:sgd_model or key:predictions"],
    ["run", "--select", "key:predictions or key:evaluation"],
    ["run", "--select", "key:train_set or key:test_set"],
    ["refresh", "--verify"],
    ["status", "--verify"],
]


def test_eight_processes_at_once_leave_nothing_damaged_and_record_what_they_read(
    furnished: House, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rounds = request.config.getoption("--crowd-rounds")
    # half of them fit another model: what is newest changes all the time
    other = tmp_path / "other.toml"
    other.write_text("[model]\nalpha = 0.001\n")
    inherited = dict(os.environ) | furnished.environment
    crowd = [
        Processes(
            tmp_path / str(number), inherited | ({"MNIST_PARAMS": str(other)} if number % 2 else {})
        )
        for number in range(len(AT_ONCE))
    ]
    refused = []
    for _ in range(rounds):
        at_work = [
            one.start(*arguments, "--json") for one, arguments in zip(crowd, AT_ONCE, strict=True)
        ]
        for command in at_work:
            status = command.status()
            document = json.loads(command.out)
            assert (status == 0) == (document.get("error") is None)
            assert "Traceback" not in command.err
            if status:
                refused.append(document["error"])
    # a refresh that was overtaken by a run with the other params says that it is not fresh any more
    overtaken = "sgd_model is stale: params changed: model.alpha"
    assert all("busy" in error or error.startswith(overtaken) for error in refused), refused
    store = Store(furnished.folder)
    steps: dict[str, Callable[..., Predictions | Evaluation]] = {
        "predictions": predicted,
        "evaluation": evaluated,
    }
    for asset, remade in steps.items():
        found = furnished.instance.fetch_materializations(dg.AssetKey(asset), 1000).records
        assert len(found) > rounds
        for made in map(Recorded.of, found):
            inputs = {name: content(store, name, version) for name, version in made.inputs.items()}
            assert remade(**inputs).data_version == made.data_version
    for sums in furnished.folder.glob("*/[!.]*/" + SUMS):
        recorded, name = sums.read_text().split()
        assert hashlib.sha256((sums.parent / name).read_bytes()).hexdigest() == recorded
    assert not list(furnished.folder.glob("*/*.damaged-*"))
    assert not list(furnished.folder.glob("*/.*.tmp"))
    refreshed = crowd[0].run("refresh", "--verify", "--json").document()
    assert set(refreshed["fresh"]) == set(ASSETS)


def content(store: Store, asset: str, version: str) -> Any:
    artifact = store.find(asset, version)
    assert artifact is not None, f"{asset} {version}"
    return CODECS[asset].loads(store.read(artifact), artifact.path.name)


def predicted(sgd_model: TrainedModel, test_set: Digits) -> Predictions:
    return prediction.predict(sgd_model, test_set)


def evaluated(predictions: Predictions) -> Evaluation:
    return metrics.evaluate(predictions)
