"""The gate: who is promoted, who is refused and why, and the way back."""

import dataclasses

import numpy as np
import pytest

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.evaluation import metrics, promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.evaluation.promotion import ChampionPredictions, Decision, Gate
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
    wrong = parts.held_out.labels.copy()
    wrong[list(places)] = (wrong[list(places)] + 1) % 10
    validated = dataclasses.replace(model.validated, row_id=parts.held_out.row_id, prediction=wrong)
    return dataclasses.replace(model, validated=validated)


def decided(
    candidate: TrainedModel,
    drawn: Split,
    evaluation: Evaluation,
    before: Champion | None = None,
    champion: ChampionPredictions | None = None,
    floor: float = 0.8,
) -> Decision:
    before = before or Champion()
    gate = Gate(floor, level=0.05)
    return gate.decide(candidate, drawn.train, evaluation, before, champion)


def champion_wrong_in(model: TrainedModel, drawn: Split, places: range) -> ChampionPredictions:
    validated = wrong_in(model, drawn, places).validated
    assert validated is not None
    return ChampionPredictions(validated.prediction, "as it is")


def test_without_a_champion_the_floor_alone_decides(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(40))
    decision = decided(candidate, drawn, evaluation)
    assert (decision.outcome, decision.champion) == ("promoted", Champion(candidate.data_version))
    assert decision.metadata["validation_accuracy"] == 0.9
    assert "there was no champion" in decision.why
    refused = decided(candidate, drawn, evaluation, floor=0.901)
    assert (refused.outcome, refused.champion) == ("refused", Champion())
    assert "both must be at least 0.9010" in refused.why


def test_labels_mixed_up_in_all_training_rows_are_caught_by_the_evaluation(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(0))
    mixed_up = dataclasses.replace(evaluation, accuracy=0.79)
    decision = decided(candidate, drawn, mixed_up)
    assert decision.outcome == "refused"
    assert "accuracy 1.0000 on the validation rows, 0.7900 on the test rows" in decision.why


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
    champion = champion_wrong_in(fitted, drawn, range(lost, lost + won))
    decision = decided(candidate, drawn, evaluation, before, champion)
    assert (decision.outcome == "promoted") is promoted
    assert decision.champion == (Champion(candidate.data_version) if promoted else before)
    assert decision.metadata["p_value"] == pytest.approx(p_value, abs=1e-3)
    assert decision.metadata["only_champion_right"] == lost
    assert decision.metadata["only_candidate_right"] == won
    assert f"{won} are right only now and {lost} were right only with the champion" in decision.why
    # again, of the same candidate
    assert decided(candidate, drawn, evaluation, before, champion) == decision
    if promoted:
        again = decided(candidate, drawn, evaluation, decision.champion)
        assert (again.outcome, again.champion) == ("stays", decision.champion)


def test_a_model_fitted_on_all_training_rows_is_never_champion(
    drawn: Split, evaluation: Evaluation
) -> None:
    params = ModelParams(preset="tutorial", max_iter=2)
    candidate = training.fit(params, validation.all_rows(drawn.train))
    decision = decided(candidate, drawn, evaluation)
    assert (decision.outcome, decision.champion) == ("refused", Champion())
    assert "it can never be champion" in decision.why


def test_a_champion_fitted_on_none_of_these_rows_is_compared_by_its_recorded_predictions(
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
    found = promotion.champion_predictions(candidate, drawn.train, champion)
    assert found.how == "as it is"
    np.testing.assert_array_equal(found.prediction, champion.validated.prediction[shuffled][:300])


@pytest.mark.parametrize("other", ["split", "rows"])
def test_a_champion_fitted_on_these_rows_is_fitted_again(
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
    reported: list[str] = []
    found = promotion.champion_predictions(fitted, drawn.train, champion, reported.append)
    assert found.how == "its params fitted again"
    assert fitted.validated is not None
    parts = validation.hold_out_rows(drawn.train, fitted.validated.row_id)
    expected = training.fit(ModelParams(preset="scaled", max_iter=4), parts).validated
    assert expected is not None
    assert parts.held_out is not None
    assert found.prediction is not None
    order = np.argsort(fitted.validated.row_id), np.argsort(expected.row_id)
    np.testing.assert_array_equal(found.prediction[order[0]], expected.prediction[order[1]])
    assert reported[0].startswith("the champion was fitted on other rows")
    # what would come out as the candidate is not fitted at all
    same = dataclasses.replace(champion, params=fitted.params)
    found = promotion.champion_predictions(fitted, drawn.train, same)
    assert found.how == "its params fitted again are the candidate's"
    assert found.prediction is fitted.validated.prediction


def test_a_champion_that_cannot_be_compared_does_not_stop_a_promotion_and_the_reason_is_given(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    elsewhere = dataclasses.replace(
        fitted,
        origin=dataclasses.replace(fitted.origin, random_state=7),
        params={"preset": "of another version of this project"},
    )
    found = promotion.champion_predictions(fitted, drawn.train, elsewhere)
    assert found.prediction is None
    decision = decided(fitted, drawn, evaluation, Champion("elsewhere"), found)
    assert decision.outcome == "promoted"
    assert "not compared: the champion's params cannot be fitted any more" in decision.why


def test_a_rollback_blocks_what_it_replaces_until_that_is_allowed(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(0))
    version = candidate.data_version
    decision = promotion.roll_back(Champion(version), "good")
    assert decision.champion == Champion("good", {version: "rolled back to good"})
    refused = decided(candidate, drawn, evaluation, decision.champion)
    assert (refused.outcome, refused.champion) == ("refused", decision.champion)
    assert refused.why == "the model is blocked: rolled back to good"
    allowed = promotion.allow(decision.champion, version)
    assert allowed == Champion("good")
    champion = champion_wrong_in(fitted, drawn, range(3))
    assert decided(candidate, drawn, evaluation, allowed, champion).outcome == "promoted"


def test_a_rollback_blocks_a_candidate_that_was_not_decided_on() -> None:
    decision = promotion.roll_back(Champion("bad"), "good", "newest")
    assert set(decision.champion.blocked) == {"bad", "newest"}
    assert decision.champion.blocked["newest"].startswith("not decided on")
    stays = promotion.roll_back(Champion("good"), "good")
    assert (stays.outcome, stays.champion) == ("stays", Champion("good"))


def test_the_file_comes_back_and_anything_else_is_refused() -> None:
    champion = Champion("one", {"two": "rolled back to one"})
    assert Champion.from_json(champion.to_json()) == champion
    assert Champion("one").data_version != champion.data_version
    for data in (b"", b"[]", b'{"model": 1}'):
        with pytest.raises(FormatError, match="not a file of Champion"):
            Champion.from_json(data)
