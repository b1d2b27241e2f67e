"""The model, its file, its predictions and its numbers."""

import copy
import dataclasses
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.data.validation import Parts
from mnist_pipeline.digits.errors import IncompatibleModelError
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.model import persistence, prediction, training
from mnist_pipeline.digits.model.pipeline import TrainedModel, probabilities
from mnist_pipeline.digits.model.prediction import Predictions
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.errors import FormatError


@pytest.fixture(scope="module")
def drawn() -> Split:
    return split(decode(sample.read()), test_size=0.2, random_state=42)


def held_out(drawn: Split) -> Parts:
    return validation.hold_out(drawn.train, size=0.1, random_state=42)


@pytest.fixture(scope="module")
def model(drawn: Split) -> TrainedModel:
    return training.fit(ModelParams(), held_out(drawn))


@pytest.fixture(scope="module")
def predictions(model: TrainedModel, drawn: Split) -> Predictions:
    return prediction.predict(model, drawn.test)


@pytest.fixture(scope="module")
def evaluation(predictions: Predictions) -> Evaluation:
    return metrics.evaluate(predictions)


def test_scores_are_the_same_to_the_bit_with_any_number_of_threads(
    model: TrainedModel, drawn: Split
) -> None:
    versions = set()
    for threads in (1, 2, 3):
        with threadpool_limits(limits=threads):
            versions.add(prediction.predict(model, drawn.test).data_version)
    assert len(versions) == 1


def test_the_version_of_a_model_follows_each_fitted_array_and_param(model: TrainedModel) -> None:
    versions = {model.data_version}
    for name in ("coef_", "intercept_", "classes_"):
        other = copy.deepcopy(model.pipeline)
        setattr(other[-1], name, getattr(other[-1], name) + 1)
        versions.add(dataclasses.replace(model, pipeline=other).data_version)
    versions.add(dataclasses.replace(model, params=model.params | {"alpha": 1.0}).data_version)
    elsewhere = dataclasses.replace(model.origin, random_state=7)
    versions.add(dataclasses.replace(model, origin=elsewhere).data_version)
    assert model.validated is not None
    for change in (
        {"row_id": model.validated.row_id[::-1]},
        {"prediction": model.validated.prediction[::-1]},
        {"temperature": 1.0},
    ):
        validated = dataclasses.replace(model.validated, **change)
        versions.add(dataclasses.replace(model, validated=validated).data_version)
    versions.add(dataclasses.replace(model, validated=None).data_version)
    versions.add(dataclasses.replace(model, rows="other").data_version)
    versions.add(dataclasses.replace(model, train_version="other").data_version)
    assert len(versions) == 12
    renamed = model.params | {"preset": "tutorial"}
    assert dataclasses.replace(model, params=renamed).data_version == model.data_version


def test_the_version_of_predictions_follows_each_part(predictions: Predictions) -> None:
    versions = {predictions.data_version}
    for name in ("row_id", "label", "prediction", "scores"):
        other = getattr(predictions, name).copy()
        other.flat[-1] += 1
        versions.add(dataclasses.replace(predictions, **{name: other}).data_version)
    versions.add(dataclasses.replace(predictions, model_version="other").data_version)
    versions.add(dataclasses.replace(predictions, test_version="other").data_version)
    versions.add(dataclasses.replace(predictions, temperature=None).data_version)
    assert len(versions) == 8


def test_results_of_test_sets_that_differ_have_different_versions_even_if_all_numbers_agree(
    drawn: Split,
) -> None:
    model = training.fit(ModelParams(preset="scaled", max_iter=2), held_out(drawn))
    pixels = drawn.test.pixels.copy()
    pixels[:, 0] = 255  # no training digit has ink there, so the model gives it no weight
    assert not drawn.train.pixels[:, 0].any()
    other = dataclasses.replace(drawn.test, pixels=pixels)
    one, two = (prediction.predict(model, digits) for digits in (drawn.test, other))
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one.test_version == drawn.test.data_version != two.test_version
    assert one.data_version != two.data_version
    metrics_of = [metrics.evaluate(predictions) for predictions in (one, two)]
    renamed = dataclasses.replace(metrics_of[0], predictions_version=two.data_version)
    assert renamed == metrics_of[1]
    assert metrics_of[0].data_version != metrics_of[1].data_version
    assert json.loads(metrics_of[0].to_json())["predictions_version"] == one.data_version


def test_a_model_names_all_training_digits_not_only_those_fitted(
    model: TrainedModel, drawn: Split
) -> None:
    assert model.train_version == drawn.train.data_version
    assert persistence.loads_fitted(persistence.dumps(model)).train_version == model.train_version
    assert validation.all_rows(drawn.train).train_version == model.train_version


def test_the_file_comes_back_as_the_same_model(model: TrainedModel, drawn: Split) -> None:
    again = persistence.loads(persistence.dumps(model))
    np.testing.assert_array_equal(again.scores(drawn.test.pixels), model.scores(drawn.test.pixels))
    assert again.data_version == model.data_version
    assert (again.params, again.origin) == (model.params, model.origin)
    assert persistence.reloads_identically(model, drawn.train).passed


def test_a_model_that_comes_back_different_is_detected(
    model: TrainedModel, drawn: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = training.fit(ModelParams(alpha=0.01), held_out(drawn))
    data = persistence.dumps(other)
    monkeypatch.setattr(persistence, "dumps", lambda model: data)
    assert not persistence.reloads_identically(model, drawn.train).passed


@pytest.fixture
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """For files of what is not a model: it has no scores to save."""
    monkeypatch.setattr(TrainedModel, "scores", lambda self, pixels: np.zeros((16, 10)))


@pytest.mark.usefixtures("no_self_test")
def test_a_model_file_with_a_type_that_is_not_trusted_is_refused_by_name(
    model: TrainedModel,
) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    function = FunctionTransformer(sample.read)
    function.n_features_in_ = 784
    foreign = make_pipeline(function, model.pipeline[-1])
    data = persistence.dumps(dataclasses.replace(model, pipeline=foreign))
    with pytest.raises(
        FormatError, match=r"not trusted: \['mnist_pipeline.digits.sources.sample.read'\]"
    ):
        persistence.loads(data)


@pytest.mark.usefixtures("no_self_test")
def test_a_model_file_of_something_else_is_refused(model: TrainedModel) -> None:
    data = persistence.dumps(dataclasses.replace(model, pipeline=model.pipeline[:-1]))
    with pytest.raises(FormatError, match="no pipeline ending in SGDClassifier"):
        persistence.loads(data)


def test_a_model_of_another_scikit_learn_is_not_opened_but_known(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(persistence, "version", lambda library: "1.7.2")
        data = persistence.dumps(model)
        assert persistence.loads(data).data_version == model.data_version
    opened: list[object] = []
    monkeypatch.setattr("skops.io.loads", lambda *args, **more: opened.append(args))
    with pytest.raises(
        IncompatibleModelError, match=r"with scikit-learn 1\.7\.2, .* materialize sgd_model"
    ):
        persistence.loads(data)
    assert not opened
    known = persistence.loads_fitted(data)
    assert (known.params, known.origin) == (model.params, model.origin)
    assert known.validated is not None
    assert model.validated is not None
    np.testing.assert_array_equal(known.validated.row_id, model.validated.row_id)
    np.testing.assert_array_equal(known.validated.prediction, model.validated.prediction)


def test_a_fast_model_is_a_small_file(model: TrainedModel) -> None:
    assert len(persistence.dumps(model)) < 1_000_000


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), pickle.dumps({"pipeline": 1})])
def test_what_is_not_a_model_file_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a model file"):
        persistence.loads(data)


def test_predictions_are_scikit_learns_own(
    model: TrainedModel, predictions: Predictions, drawn: Split
) -> None:
    np.testing.assert_array_equal(predictions.prediction, model.pipeline.predict(drawn.test.pixels))
    np.testing.assert_allclose(
        predictions.scores,
        model.pipeline.decision_function(drawn.test.pixels),
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_predictions_file_has_the_promised_columns(
    predictions: Predictions, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.parquet"
    file.write_bytes(predictions.to_parquet())
    frame = pd.read_parquet(file)
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    scores = {f"score_{digit}": "float32" for digit in range(10)}
    assert kinds == {
        "row_id": "int32",
        "label": "uint8",
        "prediction": "uint8",
        "confidence": "float32",
        **scores,
    }
    given = probabilities(predictions.scores, predictions.temperature or 0.0)
    np.testing.assert_allclose(frame["confidence"], given.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(given.argmax(axis=1), predictions.prediction)
    again = Predictions.from_parquet(predictions.to_parquet())
    assert again.data_version == predictions.data_version


def test_a_model_without_validation_has_no_probabilities(drawn: Split) -> None:
    everything = validation.all_rows(drawn.train)
    model = training.fit(ModelParams(preset="tutorial", max_iter=5), everything)
    found = prediction.predict(model, drawn.test)
    assert found.confidence is None
    frame = pd.read_parquet(io.BytesIO(found.to_parquet()))
    assert frame["confidence"].isna().all()
    numbers = metrics.evaluate(found)
    assert numbers.log_loss is numbers.brier is numbers.ece is None


def test_the_evaluation_holds_the_promised_numbers(
    evaluation: Evaluation, predictions: Predictions
) -> None:
    found = json.loads(evaluation.to_json())
    right = predictions.label == predictions.prediction
    assert found["accuracy"] == right.mean()
    assert found["accuracy_interval"][0] < found["accuracy"] < found["accuracy_interval"][1]
    assert found["n_test"] == 1000
    assert np.sum(found["confusion_matrix"]) == 1000
    assert np.trace(found["confusion_matrix"]) == right.sum()
    # [true][predicted]
    threes_as_fives = ((predictions.label == 3) & (predictions.prediction == 5)).sum()
    assert found["confusion_matrix"][3][5] == threes_as_fives
    sevens, called_seven = predictions.label == 7, predictions.prediction == 7
    precision, recall = right[called_seven].mean(), right[sevens].mean()
    assert found["per_class"]["7"] == pytest.approx(
        {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall),
            "support": sevens.sum(),
        }
    )
    given = probabilities(predictions.scores, predictions.temperature or 0.0)
    truth = np.eye(10)[predictions.label]
    assert found["log_loss"] == pytest.approx(-np.log(given[truth == 1]).mean())
    assert found["brier"] == pytest.approx(((given - truth) ** 2).sum(axis=1).mean())
    assert 0 <= found["ece"] <= 0.05
    assert found["mnist_test"] is None
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_mnists_own_test_digits_are_measured_apart_where_they_are_known(
    predictions: Predictions,
) -> None:
    row_id = np.arange(59_500, 60_500, dtype=np.int32)
    origin = dataclasses.replace(predictions.origin, is_mnist=True)
    found = metrics.evaluate(dataclasses.replace(predictions, row_id=row_id, origin=origin))
    right = predictions.label == predictions.prediction
    assert found.mnist_test is not None
    assert found.mnist_test["accuracy"] == right[500:].mean()
    assert found.mnist_test["n"] == np.sum(found.mnist_test["confusion_matrix"]) == 500
    low, high = found.mnist_test["accuracy_interval"]
    assert low < right[500:].mean() < high
    assert set(found.mnist_test) == {
        "n", "accuracy", "accuracy_interval", "per_class", "confusion_matrix",
        "log_loss", "brier", "ece",
    }  # fmt: skip


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    found = metrics.calibration_bins(confidence, right).expected_error
    assert found == pytest.approx((4 * (0.95 - 0.75) + 2 * (0.55 - 0.5)) / 6)
    # a bin holds its upper edge
    assert (
        metrics.calibration_bins(np.array([1.0, 0.0]), np.array([True, False])).expected_error == 0
    )


def test_one_temperature_makes_scores_probabilities_as_good_as_any_other() -> None:
    rng = np.random.default_rng(0)
    given = rng.dirichlet(np.ones(10) * 0.3, 4000)
    labels = np.array([rng.choice(10, p=row) for row in given], np.uint8)
    scores = 7.0 * np.log(given)
    assert training.temperature(scores, labels) == pytest.approx(7.0, rel=0.1)
    np.testing.assert_allclose(probabilities(scores, 7.0), given, atol=1e-9)


def test_the_interval_is_wilsons() -> None:
    # p. 3 of R. G. Newcombe, Statistics in Medicine 17 (1998), 857: 81 of 263
    low, high = metrics.wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_the_least_plausible_accuracy_is_allowed_and_less_is_not(evaluation: Evaluation) -> None:
    assert metrics.plausible(evaluation, evaluation.accuracy).passed
    assert not metrics.plausible(evaluation, evaluation.accuracy + 1e-9).passed
