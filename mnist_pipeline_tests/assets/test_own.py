"""A project's own assets and checks: docs/extending.md, and a check that fails."""

import importlib
import re
import sys
from pathlib import Path

import dagster as dg
import pytest

from mnist_pipeline.assets import own
from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline.incremental.steps import Asset
from mnist_pipeline_tests.conftest import House


@dg.asset_check(asset="evaluation", blocking=True)
def never(evaluation: Evaluation) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description=f"{evaluation.n_test} are too few")


def test_own_assets_and_checks_are_refreshed_and_a_blocking_check_stops_what_is_downstream(
    furnished: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (PROJECT / "docs" / "extending.md").read_text()
    asset, check, listed = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "own_grade.py").write_text(asset)
    (tmp_path / "own_check.py").write_text(check)
    monkeypatch.syspath_prepend(tmp_path)
    written = importlib.import_module("own_grade")
    monkeypatch.setitem(sys.modules, "mnist_pipeline.assets.grade", written)
    enough_digits = importlib.import_module("own_check").enough_digits
    for name in ("own_grade", "own_check"):
        monkeypatch.delitem(sys.modules, name)

    names = {"Asset": Asset, "dg": dg, "enough_digits": enough_digits}
    exec(listed, names)
    grade = names["grade"]
    for name in ("ASSETS", "CHECKS"):
        monkeypatch.setattr(own, name, names[name])
    status = furnished.session().status()
    assert status[grade.key].status == "missing"
    assert status[dg.AssetKey("evaluation")].causes == [
        "its check enough_digits has no result on it"
    ]
    done = furnished.session().refresh()
    assert (done.error, done.computed) == (None, ["champion_model", "grade"])
    assert furnished.made("grade").path.read_text() == "pass"

    before = furnished.made("champion_model")
    monkeypatch.setattr(own, "CHECKS", [never])
    stopped = furnished.session().refresh()
    assert stopped.reused == ["evaluation"]
    refusal = "evaluation was refused by its check never: 1000 are too few"
    assert refusal in (stopped.error or "")
    refused = furnished.session().status()[dg.AssetKey("evaluation")]
    assert refused.causes[0] == "refused by its check never: 1000 are too few"
    by_hand = furnished.materialize("key:evaluation+")
    assert not by_hand.success
    assert by_hand.computed == ["evaluation"]
    assert furnished.made("champion_model") == before
