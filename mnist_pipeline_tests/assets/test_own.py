"""A project's own assets and checks, listed in `assets/own.py`."""

import dagster as dg
import pytest

from mnist_pipeline.assets import own
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.incremental import asset, codecs
from mnist_pipeline_tests.conftest import House


@asset(codecs.text("grade.txt"), group_name="own")
def grade(evaluation: Evaluation) -> str:
    """A grade for the model."""
    return "pass" if evaluation.accuracy > 0.8 else "fail"


@dg.asset_check(asset="evaluation", blocking=True)
def never(evaluation: Evaluation) -> dg.AssetCheckResult:
    """Dagster reads the evaluation for it."""
    return dg.AssetCheckResult(passed=False, description=f"{evaluation.n_test} are too few")


def test_own_assets_are_refreshed_and_an_own_blocking_check_stops_what_is_downstream(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "ASSETS", [grade])
    assert furnished.session().status()[grade.key].status == "missing"
    assert furnished.session().refresh().computed == ["grade"]
    assert furnished.made("grade").path.read_text() == "pass"

    before = furnished.made("champion_model")
    monkeypatch.setattr(own, "CHECKS", [never])
    done = furnished.session().refresh()
    assert done.reused == ["evaluation"]
    assert "evaluation: never" in (done.error or "")
    assert furnished.session().status()[dg.AssetKey("evaluation")].causes == [
        "refused by its check never: 1000 are too few"
    ]
    stopped = furnished.materialize("key:evaluation+")
    assert not stopped.success
    assert stopped.computed == ["evaluation"]
    assert furnished.made("champion_model") == before
