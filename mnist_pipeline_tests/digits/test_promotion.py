"""The gate: who is promoted, who is refused and why, and the way back."""

import dataclasses

import numpy as np
import pytest

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import Split, split
from mnist_pipeline.digits.evaluation import metrics, promotion
from mnist_pipeline.digits.evaluation.champion import Champion
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.digits.evaluation.promotion import (
    ChampionPredictions,
    Decision,
    Gate,
    NotComparable,
)
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
    rows = model.validated.row_id
    wrong = promotion.in_order(drawn.train.labels, drawn.train.row_id, rows)
    wrong[list(places)] = (wrong[list(places)] + 1) % 10
    validated = dataclasses.replace(model.validated, prediction=wrong)
    return dataclasses.replace(model, validated=validated)


def decided(
    candidate: TrainedModel,
    drawn: Split,
    evaluation: Evaluation,
    before: Champion | None = None,
    champion: ChampionPredictions | NotComparable | None = None,
    gate: Gate = Gate(0.8, 0.05),  # noqa: B008 - frozen
) -> Decision:
    before = before or Champion()
    evaluation = dataclasses.replace(evaluation, model_version=candidate.data_version)
    return gate.decide(candidate, drawn.train, evaluation, before, champion)


def champion_wrong_in(model: TrainedModel, drawn: Split, places: range) -> ChampionPredictions:
    validated = wrong_in(model, drawn, places).validated
    assert validated is not None
    return ChampionPredictions(validated.row_id, validated.prediction)


def test_without_a_champion_the_floor_alone_decides(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(40))
    decision = decided(candidate, drawn, evaluation)
    assert (decision.outcome, decision.champion) == ("promoted", Champion(candidate.data_version))
    assert decision.accuracy == decision.metadata["validation_accuracy"] == 0.9
    assert "there was no champion" in decision.why
    assert promotion.is_champion(candidate.data_version, decision).passed
    refused = decided(candidate, drawn, evaluation, gate=Gate(0.901, 0.05))
    assert (refused.outcome, refused.champion) == ("refused", Champion())
    assert "both must be at least 0.9010" in refused.why
    check = promotion.is_champion(candidate.data_version, refused)
    assert not check.passed
    assert check.description == f"refused: {refused.why}"


def test_what_is_exactly_at_a_limit_passes(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate, at_floor = wrong_in(fitted, drawn, range(40)), Gate(0.9, 0.05)
    for accuracy in (0.95, 0.9):
        evaluation = dataclasses.replace(evaluation, accuracy=accuracy)
        assert decided(candidate, drawn, evaluation, gate=at_floor).outcome == "promoted"
    # 4 rows lost, none won
    candidate = wrong_in(fitted, drawn, range(4))
    champion = champion_wrong_in(fitted, drawn, range(0))
    at_level = Gate(0.8, level=1 / 16)
    decision = decided(candidate, drawn, evaluation, Champion("champion"), champion, gate=at_level)
    assert (decision.outcome, decision.metadata["p_value"]) == ("promoted", 1 / 16)


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
        (5, 5, 638 / 1024, True),
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
    words = "not significantly worse" if promoted else "refused: significantly worse"
    assert words in f"{decision.outcome}: {decision.why}"
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


def never() -> TrainedModel:
    raise AssertionError("the champion's pipeline is not needed")


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
    assert candidate.validated is not None
    found = promotion.champion_predictions(candidate.validated, drawn.train, champion, never)
    assert isinstance(found, ChampionPredictions)
    np.testing.assert_array_equal(found.row_id, candidate.validated.row_id)
    np.testing.assert_array_equal(found.prediction, champion.validated.prediction[shuffled][:300])


@pytest.mark.parametrize("other", ["split", "validation part"])
def test_with_another_split_or_validation_part_the_stored_champion_is_compared_on_rows_new_to_both(
    other: str, fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    """Equal params make no difference: the candidate is never compared with itself."""
    mine, seed = drawn, 7
    if other == "split":
        mine, seed = split(decode(sample.read()), test_size=0.2, random_state=7), 42
    parts = validation.hold_out(mine.train, size=0.1, random_state=seed)
    champion = training.fit(ModelParams(preset="scaled", max_iter=5), parts)
    assert champion.params == fitted.params
    assert fitted.validated is not None
    found = promotion.champion_predictions(
        fitted.validated, drawn.train, champion, lambda: champion
    )
    assert isinstance(found, ChampionPredictions)
    known = set(parts.fitted.row_id)
    assert set(found.row_id) == set(fitted.validated.row_id) - known
    assert 20 < len(found.row_id) < ROWS / 2
    pixels = {
        row: image for part in drawn for row, image in zip(part.row_id, part.pixels, strict=True)
    }
    expected = champion.scores(np.array([pixels[row] for row in found.row_id])).argmax(axis=1)
    np.testing.assert_array_equal(found.prediction, expected)

    # a candidate that is wrong on all of these rows is refused
    worse = wrong_in(fitted, drawn, range(0))
    assert worse.validated is not None
    wrong = worse.validated.prediction.copy()
    wrong[np.isin(worse.validated.row_id, found.row_id)] += 1
    wrong %= 10
    worse = dataclasses.replace(
        worse, validated=dataclasses.replace(worse.validated, prediction=wrong)
    )
    decision = decided(
        worse, drawn, evaluation, Champion("champion"), found, gate=Gate(0.1, level=0.05)
    )
    assert decision.outcome == "refused"
    assert f"of {len(found.row_id)} rows that neither was fitted on" in decision.why


def test_a_champion_of_other_digits_is_not_comparable_and_only_a_person_promotes(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    others = dataclasses.replace(fitted.origin, table="of other digits", rows=70_000)
    champion = dataclasses.replace(fitted, origin=others)
    assert fitted.validated is not None
    found = promotion.champion_predictions(fitted.validated, drawn.train, champion, never)
    assert isinstance(found, NotComparable)
    before = Champion("elsewhere")
    decision = decided(fitted, drawn, evaluation, before, found)
    assert (decision.outcome, decision.champion) == ("refused", before)
    assert "5,000 digits of the source sample, the champion on other digits" in decision.why
    assert f"`mnist-pipeline champion --accept {fitted.data_version}`" in decision.why

    person = Gate(0.8, 0.05, accepted=True)
    accepted = decided(fitted, drawn, evaluation, before, found, gate=person)
    assert (accepted.outcome, accepted.champion) == ("promoted", Champion(fitted.data_version))
    assert "accepted by a person, although the model was fitted on" in accepted.why
    # an accepted model passes the floor and, where it can be compared, the comparison all the same
    high = decided(fitted, drawn, evaluation, gate=Gate(0.99, 0.05, accepted=True))
    assert high.outcome == "refused"
    current = champion_wrong_in(fitted, drawn, range(0))
    worse = wrong_in(fitted, drawn, range(40))
    assert decided(worse, drawn, evaluation, before, current, gate=person).outcome == "refused"


def test_a_champion_whose_fitted_rows_are_not_known_is_not_comparable(
    fitted: TrainedModel, drawn: Split
) -> None:
    champion = dataclasses.replace(fitted, rows="of another way to split")
    assert fitted.validated is not None
    found = promotion.champion_predictions(fitted.validated, drawn.train, champion, never)
    assert isinstance(found, NotComparable)
    assert "not known which rows" in found.why


def test_a_champion_fitted_on_all_validation_rows_is_not_comparable(
    fitted: TrainedModel, drawn: Split
) -> None:
    assert fitted.validated is not None
    others = np.setdiff1d(drawn.train.row_id, fitted.validated.row_id)[:ROWS]
    validated = dataclasses.replace(fitted.validated, row_id=others)
    champion = dataclasses.replace(fitted, validated=validated)
    rows = validation.digest_of_rows(validation.fitted_rows(champion, drawn.train.row_id))
    champion = dataclasses.replace(champion, rows=rows)
    assert fitted.validated is not None
    found = promotion.champion_predictions(fitted.validated, drawn.train, champion, never)
    assert isinstance(found, NotComparable)
    assert "fitted on all validation rows" in found.why


def test_digits_that_are_not_what_their_source_promises_are_promoted_by_a_person_only(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    refused = decided(fitted, drawn, evaluation, gate=Gate(0.8, 0.05, must_be_mnist=True))
    assert (refused.outcome, refused.champion) == ("refused", Champion())
    assert "the source sample promises all of MNIST" in refused.why
    both = Gate(0.8, 0.05, must_be_mnist=True, accepted=True)
    assert decided(fitted, drawn, evaluation, gate=both).outcome == "promoted"
    # a person's word is no comparison: where one is possible, it holds
    current = champion_wrong_in(fitted, drawn, range(0))
    worse = wrong_in(fitted, drawn, range(40))
    compared = decided(worse, drawn, evaluation, Champion("of the same digits"), current, gate=both)
    assert compared.outcome == "refused"
    assert "significantly worse" in compared.why
    origin = dataclasses.replace(fitted.origin, is_mnist=True)
    proven = dataclasses.replace(fitted, origin=origin)
    must = Gate(0.8, 0.05, must_be_mnist=True)
    assert decided(proven, drawn, evaluation, gate=must).outcome == "promoted"


@pytest.mark.parametrize(
    ("rows", "level", "outcome"),
    [(4, 0.05, "refused"), (5, 0.05, "promoted"), (5, 1 / 32, "refused")],
)
def test_too_few_rows_to_refuse_anything_are_no_comparison(
    rows: int,
    level: float,
    outcome: str,
    fitted: TrainedModel,
    drawn: Split,
    evaluation: Evaluation,
) -> None:
    """Of n rows, a candidate that loses all has p = 1 / 2 ** n: the level must be above that."""
    all_rows = champion_wrong_in(fitted, drawn, range(0))
    few = ChampionPredictions(all_rows.row_id[:rows], all_rows.prediction[:rows])
    candidate = wrong_in(fitted, drawn, range(0))
    gate = Gate(0.8, level)
    decision = decided(candidate, drawn, evaluation, Champion("champion"), few, gate=gate)
    assert decision.outcome == outcome
    found = f"only {rows} validation rows are new to the champion" in decision.why
    assert found == (outcome == "refused")


def test_a_rollback_blocks_what_it_replaces_until_that_is_allowed(
    fitted: TrainedModel, drawn: Split, evaluation: Evaluation
) -> None:
    candidate = wrong_in(fitted, drawn, range(0))
    version = candidate.data_version
    decision = promotion.roll_back(Champion(version), "good")
    assert decision.champion == Champion("good", {version: "rolled back to good"})
    unblocked = promotion.roll_back(Champion(version, {"good": "why"}), "good")
    assert unblocked.champion == decision.champion
    refused = decided(candidate, drawn, evaluation, decision.champion)
    assert (refused.outcome, refused.champion) == ("refused", decision.champion)
    assert refused.why == "the model is blocked: rolled back to good"
    allowed = promotion.allow(decision.champion, version)
    assert allowed == Champion("good")
    champion = champion_wrong_in(fitted, drawn, range(3))
    assert decided(candidate, drawn, evaluation, allowed, champion).outcome == "promoted"


def test_a_rollback_blocks_a_candidate_that_was_not_decided_on() -> None:
    decision = promotion.roll_back(Champion("bad"), "good", undecided="newest")
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
