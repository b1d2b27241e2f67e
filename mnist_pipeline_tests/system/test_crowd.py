"""Eight processes at work on one store and history at once: each reads what is recorded of it."""

import hashlib
import json
import os
from pathlib import Path

import dagster as dg
import pytest

from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.model import prediction
from mnist_pipeline.incremental import history
from mnist_pipeline.incremental.history import Materialization
from mnist_pipeline.incremental.results import REUSED_FROM
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.support.clones import ASSETS, NEVER_REUSED
from mnist_pipeline_tests.support.processes import Processes

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


def test_eight_processes_at_once_damage_nothing_record_what_they_read_and_compute_nothing_twice(
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
    errors = []
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
                errors.append(document["error"])
    # a refresh that was overtaken by a run with the other params reports that
    overtaken = "busy", "model.alpha", "is newer"
    assert all(any(why in one for why in overtaken) for one in errors), errors

    materialized = {name: all_of(furnished, name) for name in sorted(ASSETS)}
    for name in ("predictions", "evaluation"):
        assert len(materialized[name]) > rounds
        for made in materialized[name]:
            assert computed_again(furnished, made) == made.data_version
    for name in ASSETS - NEVER_REUSED:
        keys = [
            (one.code_version, *sorted(one.inputs.items()))
            for one in materialized[name]
            if one.value(REUSED_FROM) is None
        ]
        assert len(keys) == len(set(keys)), f"{name} was computed twice from the same"
    for file in furnished.folder.glob("*/[!.]*/*"):
        if "dagster_home" not in file.parts:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.parent.name
    assert not list(furnished.folder.glob("*/.*.tmp"))
    refreshed = crowd[0].run("refresh", "--verify", "--json").document()
    assert set(refreshed["fresh"]) == ASSETS


def all_of(house: House, asset: str) -> list[Materialization]:
    return list(history.all_of(house.instance, dg.AssetKey(asset)))


def computed_again(house: House, made: Materialization) -> str:
    """The data version that comes of the inputs that a materialization records."""
    engine, values = house.pipeline().engine, {}
    for key, version in made.inputs.items():
        read = history.with_version(house.instance, engine.store, key, version)
        assert read is not None, f"{key.to_user_string()} {version}"
        values[key.to_user_string()] = engine.load(house.instance, read)
    if made.key.to_user_string() == "predictions":
        return str(prediction.predict(values["sgd_model"], values["test_set"]).data_version)
    return str(metrics.evaluate(values["predictions"]).data_version)
