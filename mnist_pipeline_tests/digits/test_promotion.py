"""The gate: who is promoted, who is refused and why, and the way back."""

import dataclasses

import numpy as np
import pytest

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.evaluation import metrics, promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.evaluation.promotion import Rival, Ruling
from mnist_pipeline.digits.model import prediction, training
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.errors import FormatError

ROWS = 400


@pytest.fixture(scope="module")
def drawn() -> Split:
    return split(decode(sample.read()), test_size=0.2, random_state=42)


@pytest.fixture(scope="module")
def fitted(drawn: Split) -> TrainedModel:
    parts = validation.hold_out(drawn.train, size=0.1, random_state=42)
    return training.fit(ModelParams(preset="scaled", max_iter=5), parts)


@pytest.fixture(scope="module")
def evaluation(fitted: TrainedModel, drawn: Split) -> Evaluation:
    return metrics.evaluate(prediction.predict(fitted, drawn.test))


def wrong_in(model: TrainedModel, drawn: Split, places: range) -> TrainedModel:
    """The model as if it had been wrong about these of its validation rows, and no others."""
    assert model.validated is not None
    parts = validation.hold_out_rows(drawn.train, model.validated.row_id)
    assert parts.held_out is not None
    said = parts.held_out.labels.copy()
    said[list(places)] = (said[list(places)] + 1) % 10
    validated = dataclasses.replace(model.validated, row_id=parts.held_out.row_id, prediction=said)
    return dataclasses.replace(model, validated=validated)


def decided(
    candidate: TrainedModel,
    drawn: Split,
    evaluation: Evaluation,
    before: Champion | None = None,
    rival: Rival | None = None,
    floor: float = 0.8,
) -> Ruling:
    before = before or Champion()
    return promotion.decide(
        candidate, drawn.train, evaluation, before, rival, floor=floor, level=0.05
    )


def rival_wrong_in(model: TrainedModel, drawn: Split, places: range) -> Rival:
    validated = wrong_in(model, drawn, places).validated
    assert validated is not None
    return Rival(validated.prediction, "as it is")


def test_without_a_champion_the_floor_alone_decides(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(40))
    ruling = decided(candidate, drawn, evaluation)
    assert (ruling.outcome, ruling.champion) == ("promoted", Champion(candidate.data_version))
    assert ruling.metadata["validation_accuracy"] == 0.9
    assert "no champion was in service" in ruling.why
    refused = decided(candidate, drawn, evaluation, floor=0.901)
    assert (refused.outcome, refused.champion) == ("refused", Champion())
    assert "both must be at least 0.9010" in refused.why


def test_labels_mixed_up_in_all_training_rows_are_caught_by_the_evaluation(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(0))
    mixed_up = dataclasses.replace(evaluation, accuracy=0.79)
    ruling = decided(candidate, drawn, mixed_up)
    assert ruling.outcome == "refused"
    assert "accuracy 1.0000 on the validation rows, 0.7900 on the test rows" in ruling.why


@pytest.mark.parametrize(
    ("lost", "won", "p_value", "promoted"),
    [
        (10, 1, 12 / 2048, False),  # (1 + 11) / 2 ** 11
        (5, 0, 1 / 32, False),
        (4, 0, 1 / 16, True),
        (20, 12, 0.1077, True),
        (0, 0, 1.0, True),
        (3, 30, 1.0, True),
    ],
)
def test_a_candidate_is_refused_if_it_is_worse_beyond_chance(
    lost: int,
    won: int,
    p_value: float,
    promoted: bool,
    fitted: TrainedModel,
    drawn: Split,
    evaluation: Evaluation,
) -> None:
    before = Champion("the champion's version")
    candidate = wrong_in(fitted, drawn, range(lost))
    rival = rival_wrong_in(fitted, drawn, range(lost, lost + won))
    ruling = decided(candidate, drawn, evaluation, before, rival)
    assert (ruling.outcome == "promoted") is promoted
    assert ruling.champion == (Champion(candidate.data_version) if promoted else before)
    assert ruling.metadata["p_value"] == pytest.approx(p_value, abs=1e-3)
    assert ruling.metadata["only_champion_right"] == lost
    assert ruling.metadata["only_candidate_right"] == won
    assert f"{won} are right only now and {lost} were right only with the champion" in ruling.why
    # again, of the same candidate
    assert decided(candidate, drawn, evaluation, before, rival) == ruling
    if promoted:
        again = decided(candidate, drawn, evaluation, ruling.champion)
        assert (again.outcome, again.champion) == ("stays", ruling.champion)


def test_a_model_fitted_on_all_training_rows_is_never_champion(
    drawn: Split, evaluation: Evaluation
) -> None:
    params = ModelParams(preset="tutorial", max_iter=2)
    candidate = training.fit(params, validation.all_rows(drawn.train))
    ruling = decided(candidate, drawn, evaluation)
    assert (ruling.outcome, ruling.champion) == ("refused", Champion())
    assert "it can never be champion" in ruling.why


def test_a_champion_that_saw_none_of_these_rows_is_taken_at_its_word(
    fitted: TrainedModel, drawn: Split
) -> None:
    champion = wrong_in(fitted, drawn, range(7))
    assert champion.validated is not None
    shuffled = np.random.default_rng(0).permutation(ROWS)
    candidate = dataclasses.replace(
        champion,
        validated=dataclasses.replace(
            champion.validated,
            row_id=champion.validated.row_id[shuffled][:300],
            prediction=champion.validated.prediction[:300],
        ),
    )
    rival = promotion.rival_of(candidate, drawn.train, champion)
    assert rival.how == "as it is"
    np.testing.assert_array_equal(rival.prediction, champion.validated.prediction[shuffled][:300])


@pytest.mark.parametrize("other", ["split", "rows"])
def test_a_champion_that_saw_these_rows_is_fitted_anew(
    other: str, fitted: TrainedModel, drawn: Split
) -> None:
    if other == "split":
        origin = dataclasses.replace(fitted.origin, random_state=7)
        champion = dataclasses.replace(fitted, origin=origin)
    else:
        parts = validation.hold_out(drawn.train, size=0.1, random_state=7)
        champion = training.fit(ModelParams(preset="scaled", max_iter=5), parts)
    slow = ModelParams(preset="scaled", max_iter=4).model_dump(mode="json")
    champion = dataclasses.replace(champion, params=slow)
    said: list[str] = []
    rival = promotion.rival_of(fitted, drawn.train, champion, said.append)
    assert rival.how == "its params fitted anew"
    assert fitted.validated is not None
    parts = validation.hold_out_rows(drawn.train, fitted.validated.row_id)
    expected = training.fit(ModelParams(preset="scaled", max_iter=4), parts).validated
    assert expected is not None
    assert parts.held_out is not None
    assert rival.prediction is not None
    order = np.argsort(fitted.validated.row_id), np.argsort(expected.row_id)
    np.testing.assert_array_equal(rival.prediction[order[0]], expected.prediction[order[1]])
    assert said[0].startswith("the champion was fitted on other rows")
    # what would come out as the candidate is not fitted at all
    same = dataclasses.replace(champion, params=fitted.params)
    rival = promotion.rival_of(fitted, drawn.train, same)
    assert rival.how == "fitted anew, it is the candidate itself"
    assert rival.prediction is fitted.validated.prediction


def test_a_champion_that_cannot_be_compared_does_not_stand_in_the_way_and_it_is_said(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    elsewhere = dataclasses.replace(
        fitted,
        origin=dataclasses.replace(fitted.origin, random_state=7),
        params={"preset": "of another version of this project"},
    )
    rival = promotion.rival_of(fitted, drawn.train, elsewhere)
    assert rival.prediction is None
    ruling = decided(fitted, drawn, evaluation, Champion("elsewhere"), rival)
    assert ruling.outcome == "promoted"
    assert "not compared: the champion's params cannot be fitted any more" in ruling.why


def test_a_rollback_bars_what_it_leaves_until_it_is_allowed(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(0))
    version = candidate.data_version
    ruling = promotion.roll_back(Champion(version), "good")
    assert ruling.champion == Champion("good", {version: "rolled back to good"})
    refused = decided(candidate, drawn, evaluation, ruling.champion)
    assert (refused.outcome, refused.champion) == ("refused", ruling.champion)
    assert refused.why == "the model is barred: rolled back to good"
    allowed = promotion.allow(ruling.champion, version)
    assert allowed == Champion("good")
    rival = rival_wrong_in(fitted, drawn, range(3))
    assert decided(candidate, drawn, evaluation, allowed, rival).outcome == "promoted"


def test_a_rollback_bars_a_candidate_that_was_not_decided_on() -> None:
    ruling = promotion.roll_back(Champion("bad"), "good", "newest")
    assert set(ruling.champion.barred) == {"bad", "newest"}
    assert ruling.champion.barred["newest"].startswith("not decided on")
    stays = promotion.roll_back(Champion("good"), "good")
    assert (stays.outcome, stays.champion) == ("stays", Champion("good"))


def test_the_file_comes_back_and_anything_else_is_refused() -> None:
    champion = Champion("one", {"two": "rolled back to one"})
    assert Champion.from_json(champion.to_json()) == champion
    assert Champion("one").data_version != champion.data_version
    for data in (b"", b"[]", b'{"model": 1}'):
        with pytest.raises(FormatError, match="not a file of Champion"):
            Champion.from_json(data)
