"""The model, its file, its predictions and its numbers."""

import copy
import dataclasses
import json
import pickle
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from mnist_pipeline.digits import (
    champion,
    classifier,
    figures,
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
from mnist_pipeline.errors import FitError, FormatError
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
    assert len(versions) == 6
    renamed = model.params | {"preset": "tutorial"}
    assert dataclasses.replace(model, params=renamed).data_version == model.data_version


def test_the_version_of_predictions_follows_each_part(predictions: Predictions) -> None:
    versions = {predictions.data_version}
    for name in ("row_id", "label", "prediction", "scores"):
        other = getattr(predictions, name).copy()
        other.flat[-1] += 1
        versions.add(dataclasses.replace(predictions, **{name: other}).data_version)
    versions.add(dataclasses.replace(predictions, model_version="other").data_version)
    assert len(versions) == 6


def test_params_that_lead_out_of_the_numbers_are_named_as_the_cause(drawn: Split) -> None:
    wild = ModelParams(alpha=1e300, eta0=1e300, learning_rate="constant")
    with pytest.raises(FitError, match=r"cannot fit with these params: .*overflow"):
        classifier.fit(wild, drawn.train)


def test_a_fit_reports_progress_and_prints_nothing(
    drawn: Split, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "_REPORT_SECONDS", 0.0)
    said: list[str] = []
    classifier.fit(ModelParams(max_iter=5), drawn.train, said.append)
    assert any(
        re.fullmatch(r"\d+ of 10 classes converged, \d+ epochs so far", line) for line in said
    )
    assert any(line.startswith("warning: not converged after 5 epochs") for line in said)
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
    np.testing.assert_array_equal(again.scores(drawn.test.pixels), model.scores(drawn.test.pixels))
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


def test_a_skops_file_of_something_else_is_refused(model: TrainedModel) -> None:
    import skops.io

    content = {"pipeline": 1, "origin": dataclasses.asdict(model.origin), "params": {}}
    with pytest.raises(FormatError, match="no pipeline ending in SGDClassifier"):
        persistence.loads(skops.io.dumps(content))


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), pickle.dumps({"pipeline": 1})])
def test_what_is_no_model_file_is_refused(data: bytes) -> None:
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
    assert found["log_loss"] is found["brier"] is found["ece"] is found["mnist_test"] is None
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_mnists_own_test_digits_are_measured_apart_where_they_are_known(
    predictions: Predictions,
) -> None:
    row_id = np.arange(59_500, 60_500, dtype=np.int32)
    origin = dataclasses.replace(predictions.origin, is_mnist=True)
    found = metrics.evaluate(dataclasses.replace(predictions, row_id=row_id, origin=origin))
    right = predictions.label == predictions.prediction
    assert found.mnist_test == {"accuracy": right[500:].mean(), "n": 500}


def test_the_interval_is_wilsons() -> None:
    # p. 3 of R. G. Newcombe, Statistics in Medicine 17 (1998), 857: 81 of 263
    low, high = metrics._wilson(81, 263)  # noqa: SLF001
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_the_floor_is_allowed_and_less_is_not(evaluation: Evaluation) -> None:
    assert metrics.above_floor(evaluation, evaluation.accuracy).passed
    assert not metrics.above_floor(evaluation, evaluation.accuracy + 1e-9).passed


def evidence_of(
    drawn: Split, model: TrainedModel, predictions: Predictions, evaluation: Evaluation
) -> report.Evidence:
    standing = champion.decide(model.data_version, evaluation)
    return report.Evidence(drawn.train, drawn.test, model, predictions, evaluation, standing)


def test_evidence_of_another_model_or_split_is_seen(
    drawn: Split, model: TrainedModel, predictions: Predictions, evaluation: Evaluation
) -> None:
    evidence = evidence_of(drawn, model, predictions, evaluation)
    assert report.one_model(evidence).passed
    elsewhere = dataclasses.replace(drawn.train.origin, random_state=7)
    for part in ("train", "test", "predictions"):
        foreign = dataclasses.replace(getattr(evidence, part), origin=elsewhere)
        assert not report.one_model(dataclasses.replace(evidence, **{part: foreign})).passed
    for part in ("predictions", "evaluation"):
        foreign = dataclasses.replace(getattr(evidence, part), model_version="other")
        assert not report.one_model(dataclasses.replace(evidence, **{part: foreign})).passed


def test_a_report_looks_the_same_under_any_matplotlibrc(
    drawn: Split, model: TrainedModel, predictions: Predictions, evaluation: Evaluation
) -> None:
    evidence = evidence_of(drawn, model, predictions, evaluation)
    page = report.render(evidence)
    with mpl.rc_context({"savefig.dpi": 150, "axes.facecolor": "pink"}):
        assert report.render(evidence).data_version == page.data_version


def test_the_pictures_are_the_first_training_digit_and_the_first_two_test_digits(
    drawn: Split,
    model: TrainedModel,
    predictions: Predictions,
    evaluation: Evaluation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn_images: list[object] = []
    digit_row = figures.digit_row

    def watched(images: npt.NDArray[np.uint8], titles: Sequence[str]) -> bytes:
        drawn_images.extend([images, list(titles)])
        return digit_row(images, titles)

    monkeypatch.setattr(figures, "digit_row", watched)
    report.render(evidence_of(drawn, model, predictions, evaluation))
    images, titles = drawn_images
    expected = [drawn.train.pixels[0], drawn.test.pixels[0], drawn.test.pixels[1]]
    np.testing.assert_array_equal(images, expected)
    assert f"predicted {predictions.prediction[1]}" in titles[2]  # type: ignore[index]


def test_the_report_is_one_file_that_asks_nothing_of_the_network(
    drawn: Split, model: TrainedModel, predictions: Predictions, evaluation: Evaluation
) -> None:
    evidence = evidence_of(drawn, model, predictions, evaluation)
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
