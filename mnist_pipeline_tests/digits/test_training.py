"""The fit: which rows it uses, when it ends, what it reports."""

import dataclasses
import re

import numpy as np
import pytest

from mnist_pipeline.digits import progress
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.validation import Parts
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.model import epochs, persistence, training
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.errors import FormatError

SMALL_KERNEL = {"preset": "accurate", "n_components": 200, "n_whitening": 1000, "max_iter": 3}


@pytest.fixture(scope="module")
def drawn() -> Split:
    return split(decode(sample.read()), test_size=0.2, random_state=42)


@pytest.fixture(scope="module")
def parts(drawn: Split) -> Parts:
    return validation.hold_out(drawn.train, size=0.1, random_state=42)


def accuracy(model: TrainedModel, drawn: Split) -> float:
    predicted = model.scores(drawn.test.pixels).argmax(axis=1)
    return float((predicted == drawn.test.labels).mean())


@pytest.mark.parametrize(
    ("params", "least"),
    [({"preset": "scaled"}, 0.85), ({"preset": "fast"}, 0.96), (SMALL_KERNEL, 0.95)],
)
def test_each_preset_learns(
    params: dict[str, object], least: float, drawn: Split, parts: Parts
) -> None:
    model = training.fit(ModelParams.model_validate(params), parts)
    assert accuracy(model, drawn) >= least
    assert model.validated is not None
    assert parts.held_out is not None
    np.testing.assert_array_equal(model.validated.row_id, parts.held_out.row_id)
    predicted = model.scores(parts.held_out.pixels).argmax(axis=1)
    np.testing.assert_array_equal(predicted, model.validated.prediction)
    assert model.validated.accuracy == (predicted == parts.held_out.labels).mean()


@pytest.mark.parametrize("params", [{"preset": "scaled"}, {"preset": "fast"}, SMALL_KERNEL])
def test_a_fit_is_the_same_with_any_number_of_threads(
    params: dict[str, object], drawn: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = drawn.train[:1500]
    held_out = validation.hold_out(few, size=0.1, random_state=0)
    versions = set()
    for threads in ("1", "3"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", threads)
        versions.add(training.fit(ModelParams.model_validate(params), held_out).data_version)
    assert len(versions) == 1


def test_the_validation_part_is_a_stratified_tenth_by_its_seed(drawn: Split, parts: Parts) -> None:
    assert parts.held_out is not None
    assert len(parts.held_out) == 400
    assert (
        np.bincount(parts.held_out.labels).tolist() == [40] * 10
        or np.ptp(np.bincount(parts.held_out.labels) / np.bincount(drawn.train.labels)) < 0.01
    )
    rows = np.concatenate([parts.fitted.row_id, parts.held_out.row_id])
    np.testing.assert_array_equal(np.sort(rows), np.sort(drawn.train.row_id))
    again = validation.hold_out(drawn.train, size=0.1, random_state=42)
    assert again.held_out is not None
    np.testing.assert_array_equal(again.held_out.row_id, parts.held_out.row_id)
    other = validation.hold_out(drawn.train, size=0.1, random_state=7)
    assert other.held_out is not None
    assert not np.array_equal(other.held_out.row_id, parts.held_out.row_id)


def test_what_is_held_out_does_not_reach_the_fit(parts: Parts) -> None:
    assert parts.held_out is not None
    params = ModelParams(max_iter=2)
    wrong = dataclasses.replace(parts.held_out, labels=(parts.held_out.labels + 1) % 10)
    models = [
        training.fit(params, dataclasses.replace(parts, held_out=part))
        for part in (parts.held_out, wrong)
    ]
    # with labels all wrong another epoch may be kept, and that is all
    kept = [model.validated.accuracies for model in models if model.validated]
    assert len(kept[0]) == len(kept[1]) == 2
    assert kept[0] != kept[1]
    fitted = [
        training.fit(ModelParams(max_iter=1), dataclasses.replace(parts, held_out=part))
        for part in (parts.held_out, wrong)
    ]
    np.testing.assert_array_equal(fitted[0].pipeline[-1].coef_, fitted[1].pipeline[-1].coef_)


def test_test_rows_in_the_fit_or_among_those_held_out_are_detected(
    drawn: Split, parts: Parts
) -> None:
    quick = ModelParams(preset="scaled", max_iter=2)
    model = training.fit(quick, parts)
    result = validation.only_training_rows(model, drawn.train)
    assert result.passed
    assert result.metadata == {"fitted": 3600, "held_out": 400, "foreign": 0}

    both = [parts.fitted, drawn.test]
    leaked = dataclasses.replace(
        parts.fitted,
        row_id=np.concatenate([part.row_id for part in both]),
        pixels=np.concatenate([part.pixels for part in both]),
        labels=np.concatenate([part.labels for part in both]),
    )
    cheat = training.fit(quick, dataclasses.replace(parts, fitted=leaked))
    result = validation.only_training_rows(cheat, drawn.train)
    assert not result.passed
    assert "fitted on other rows" in result.description

    assert model.validated is not None
    chosen_by_test = dataclasses.replace(
        model, validated=dataclasses.replace(model.validated, row_id=drawn.test.row_id[:400])
    )
    result = validation.only_training_rows(chosen_by_test, drawn.train)
    assert not result.passed
    assert result.metadata["foreign"] == 400

    rows = validation.digest_of_rows(drawn.train.row_id)
    of_all = dataclasses.replace(model, rows=rows, validated=None)
    result = validation.only_training_rows(of_all, drawn.train)
    assert result.passed
    assert result.metadata == {"fitted": 4000, "held_out": 0, "foreign": 0}

    other = dataclasses.replace(model, origin=dataclasses.replace(model.origin, test_size=0.1))
    result = validation.only_training_rows(other, drawn.train)
    assert not result.passed
    assert "of another split" in result.description


def test_a_fit_by_epoch_ends_when_the_validation_accuracy_stays(parts: Parts) -> None:
    messages: list[str] = []
    params = ModelParams(max_iter=50)
    model = training.fit(params, parts, messages.append)
    assert model.validated is not None
    accuracies = model.validated.accuracies
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 1 + 2 < 50
    assert model.pipeline[-1].n_iter_ == len(accuracies)
    assert model.validated.accuracy == pytest.approx(max(accuracies), abs=0.003)
    epochs = [line for line in messages if line.startswith("epoch ")]
    assert len(epochs) == len(accuracies)
    assert f"epoch {best + 1}: validation accuracy {max(accuracies):.4f}" in epochs[best]


def test_distorted_digits_come_in_chunks_and_are_reported(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(epochs, "DISTORTED", 1000)
    messages: list[str] = []
    params = ModelParams.model_validate(SMALL_KERNEL | {"max_iter": 1})
    training.fit(params, parts, messages.append)
    assert [line for line in messages if "of this epoch" in line] == [
        f"{done:,} of 3,600 digits of this epoch" for done in (1000, 2000, 3000, 3600)
    ]


def test_a_fit_by_its_own_rule_reports_progress_and_prints_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    messages: list[str] = []
    training.fit(ModelParams(preset="scaled", max_iter=5), parts, messages.append)
    assert any(
        re.fullmatch(r"\d+ of 10 classes converged, \d+ epochs so far", line) for line in messages
    )
    assert any(line.startswith("warning: not converged after 5 epochs") for line in messages)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_digits_that_do_not_show_all_classes_are_refused(drawn: Split) -> None:
    few = drawn.train.chosen(np.flatnonzero(drawn.train.labels != 3))
    with pytest.raises(FormatError, match=r"show only \[0, 1, 2, 4"):
        training.fit(ModelParams(), validation.all_rows(few))


def test_too_few_digits_to_hold_some_out_are_refused(drawn: Split) -> None:
    few = drawn.train[:12]
    with pytest.raises(FormatError, match="no validation part can be held out"):
        validation.hold_out(few, size=0.1, random_state=0)


@pytest.mark.parametrize(
    "params",
    [
        {"preset": "fast", "early_stopping": False, "max_iter": 3},
        {"preset": "fast", "early_stopping": False, "hold_out": False, "max_iter": 3},
        {"preset": "fast", "random_state": 2**32 - 1, "average": False},
        {"preset": "scaled", "early_stopping": True, "average": True, "eta0": 0.1},
        {"preset": "tutorial", "hold_out": True, "early_stopping": True},
        {"features": "kernel", "n_components": 50, "cells": (3,)},
        {"preset": "scaled", "loss": "log_loss", "max_iter": 20},
        {"preset": "scaled", "loss": "modified_huber", "max_iter": 20},
        {"preset": "scaled", "loss": "perceptron", "max_iter": 20},
        {"preset": "fast", "loss": "log_loss"},
        {"preset": "fast", "penalty": "elasticnet", "learning_rate": "optimal"},
    ],
    ids=str,
)
def test_keys_go_together_as_one_likes_and_the_model_can_be_filed(
    params: dict[str, object], drawn: Split, parts: Parts
) -> None:
    wanted = ModelParams.model_validate(params)
    given = parts if wanted.hold_out else validation.all_rows(drawn.train)
    model = training.fit(wanted, given)
    assert accuracy(model, drawn) > 0.7
    assert (model.validated is not None) is wanted.hold_out
    if not wanted.early_stopping and wanted.by_epoch:
        assert model.pipeline[-1].n_iter_ == wanted.max_iter
    again = persistence.loads(persistence.dumps(model))
    assert again.data_version == model.data_version
    assert persistence.reloads_identically(model, drawn.train).passed


# last: threads of a fit that failed may go on printing for a moment
def test_params_that_lead_out_of_the_numbers_are_named_as_the_cause(parts: Parts) -> None:
    wild = ModelParams(preset="scaled", alpha=1e300, eta0=1e300, learning_rate="constant")
    with pytest.raises(FitError, match=r"cannot fit with these params: .*overflow"):
        training.fit(wild, parts)
