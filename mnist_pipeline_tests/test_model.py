"""The model, its file, its predictions and its numbers."""

import dataclasses
import json
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from mnist_pipeline.digits import (
    champion,
    classifier,
    metrics,
    persistence,
    prediction,
    report,
    sample,
)
from mnist_pipeline.digits.classifier import TrainedModel
from mnist_pipeline.digits.features import PixelScaler
from mnist_pipeline.digits.metrics import Evaluation
from mnist_pipeline.digits.prediction import Predictions
from mnist_pipeline.digits.split import Split, split
from mnist_pipeline.digits.table import decode
from mnist_pipeline.errors import FormatError
from mnist_pipeline.params import ModelParams


@pytest.fixture(scope="module")
def drawn() -> Split:
    return split(decode(sample.read()), test_size=0.2, random_state=42)


@pytest.fixture(scope="module")
def model(drawn: Split) -> TrainedModel:
    return classifier.fit(ModelParams(), drawn.train)


@pytest.fixture(scope="module")
def predictions(model: TrainedModel, drawn: Split) -> Predictions:
    return prediction.predict(model, drawn.test)


@pytest.fixture(scope="module")
def evaluation(predictions: Predictions) -> Evaluation:
    return metrics.evaluate(predictions)


@parametrize_with_checks([PixelScaler()])  # type: ignore[untyped-decorator]
def test_the_scaler_is_a_scikit_learn_estimator(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_the_scaler_divides_by_255_in_float32(drawn: Split) -> None:
    scaled = PixelScaler().fit_transform(drawn.test.pixels)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, drawn.test.pixels / np.float32(255))


def test_a_fit_is_the_same_with_any_number_of_threads(drawn: Split) -> None:
    import joblib

    few = dataclasses.replace(
        drawn.train, pixels=drawn.train.pixels[:500], labels=drawn.train.labels[:500]
    )
    models = []
    context = joblib.parallel_config
    for jobs in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                joblib, "parallel_config", lambda jobs=jobs, **_: context("threading", n_jobs=jobs)
            )
            models.append(classifier.fit(ModelParams(), few))
    assert models[0].data_version == models[1].data_version


def test_a_fit_reports_progress_and_prints_nothing(
    drawn: Split, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "_REPORT_SECONDS", 0.0)
    said: list[str] = []
    classifier.fit(ModelParams(max_iter=5), drawn.train, said.append)
    assert any(
        re.fullmatch(r"\d+ of 10 classes converged, \d+ epochs so far", line) for line in said
    )
    assert any(line.startswith("warning: Maximum number of iteration reached") for line in said)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_digits_that_do_not_show_all_classes_are_refused(drawn: Split) -> None:
    keep = drawn.train.labels != 3
    few = dataclasses.replace(
        drawn.train, pixels=drawn.train.pixels[keep], labels=drawn.train.labels[keep]
    )
    with pytest.raises(FormatError, match=r"show only \[0, 1, 2, 4"):
        classifier.fit(ModelParams(), few)


def test_the_file_comes_back_as_the_same_model(model: TrainedModel, drawn: Split) -> None:
    again = persistence.loads(persistence.dumps(model))
    np.testing.assert_array_equal(
        again.pipeline.decision_function(drawn.test.pixels),
        model.pipeline.decision_function(drawn.test.pixels),
    )
    assert again.data_version == model.data_version
    assert (again.params, again.origin) == (model.params, model.origin)
    assert persistence.reloads_identically(model, drawn.train).passed


def test_a_model_that_comes_back_different_is_seen(
    model: TrainedModel, drawn: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = classifier.fit(ModelParams(alpha=0.01), drawn.train)
    data = persistence.dumps(other)
    monkeypatch.setattr(persistence, "dumps", lambda model: data)
    assert not persistence.reloads_identically(model, drawn.train).passed


def test_a_model_file_with_a_type_that_is_not_trusted_is_refused_by_name(
    model: TrainedModel,
) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    foreign = make_pipeline(FunctionTransformer(sample.read), model.pipeline[-1])
    data = persistence.dumps(dataclasses.replace(model, pipeline=foreign))
    with pytest.raises(FormatError, match=r"not trusted: \['mnist_pipeline.digits.sample.read'\]"):
        persistence.loads(data)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), pickle.dumps({"pipeline": 1})])
def test_what_is_no_model_file_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a model file"):
        persistence.loads(data)


def test_predictions_are_scikit_learns_own(
    model: TrainedModel, predictions: Predictions, drawn: Split
) -> None:
    np.testing.assert_array_equal(predictions.prediction, model.pipeline.predict(drawn.test.pixels))
    np.testing.assert_allclose(
        predictions.scores, model.pipeline.decision_function(drawn.test.pixels), rtol=1e-5
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
    assert frame["confidence"].isna().all()
    again = Predictions.from_parquet(predictions.to_parquet())
    assert again.data_version == predictions.data_version


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
    assert found["per_class"]["7"]["recall"] == right[predictions.label == 7].mean()
    assert found["per_class"]["7"]["support"] == (predictions.label == 7).sum()
    assert found["log_loss"] is found["brier"] is found["ece"] is found["mnist_test"] is None
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_the_interval_is_wilsons() -> None:
    # p. 3 of R. G. Newcombe, Statistics in Medicine 17 (1998), 857: 81 of 263
    low, high = metrics._wilson(81, 263)  # noqa: SLF001
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_the_floor_is_allowed_and_less_is_not(evaluation: Evaluation) -> None:
    assert metrics.above_floor(evaluation, evaluation.accuracy).passed
    assert not metrics.above_floor(evaluation, evaluation.accuracy + 1e-9).passed


def test_the_report_is_one_file_that_asks_nothing_of_the_network(
    drawn: Split, model: TrainedModel, predictions: Predictions, evaluation: Evaluation
) -> None:
    standing = champion.decide(model.data_version, evaluation)
    evidence = report.Evidence(drawn.train, drawn.test, model, predictions, evaluation, standing)
    assert report.one_model(evidence).passed
    page = report.render(evidence)
    sources: list[str] = []
    alternatives: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found = dict(attrs)
            sources.extend(str(found[key]) for key in ("src", "href") if key in found)
            if tag == "img":
                alternatives.append(found.get("alt") or "")

    Reader().feed(page.html)
    assert len(alternatives) == 2
    assert all(alternatives)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in page.html
    assert f"{evaluation.accuracy:.2%} of 1,000 test digits right" in page.html
    assert page.data_version == report.render(evidence).data_version
