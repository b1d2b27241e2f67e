"""`mnist-pipeline export`: the champion with its cards, for others."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mnist_pipeline_tests.conftest import flip_a_byte
from mnist_pipeline_tests.support.clones import Forked

FILES = {
    "README.md",
    "croissant.json",
    "evaluation.json",
    "sgd_model.skops",
    "test_set.parquet",
    "train_set.parquet",
}


@pytest.fixture
def exported(furnished_forked: Forked, tmp_path: Path) -> Path:
    """A folder that the command wrote."""
    folder = tmp_path / "for others" / "champion"
    answer = furnished_forked.json("export", str(folder))
    assert answer["status"] == "success"
    assert {Path(one) for one in answer["written"]} == set(folder.iterdir())
    assert {one.name for one in folder.iterdir()} == FILES
    return folder


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a model card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_model_card_has_hugging_faces_fields_and_the_numbers_of_the_evaluation(
    exported: Path,
) -> None:
    found, text = card(exported)
    assert (found["library_name"], found["model_format"]) == ("sklearn", "skops")
    assert (exported / found["model_file"]).is_file()
    assert found["pipeline_tag"] == "image-classification"
    [model] = found["model-index"]
    [result] = model["results"]
    evaluation = json.loads((exported / "evaluation.json").read_text())
    numbers = {one["type"]: one["value"] for one in result["metrics"]}
    assert set(found["metrics"]) <= set(numbers)
    assert numbers == {key: evaluation[key] for key in ("accuracy", "log_loss", "brier", "ece")}
    assert {"type", "name", "split", "revision", "args"} == set(result["dataset"])
    assert result["task"]["type"] == found["pipeline_tag"]
    for digit, one in evaluation["per_class"].items():
        row = f"| {digit} | {one['precision']:.2%} | {one['recall']:.2%} | {one['f1']:.2%} |"
        assert row in text
    assert evaluation["model_version"] in text


def test_the_card_of_the_model_is_that_of_the_report(
    exported: Path, furnished_forked: Forked
) -> None:
    _, text = card(exported)
    [file] = furnished_forked.data.glob("report/*/report.html")
    page = file.read_text()
    page = page[page.index('id="card-title"') :]
    titles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    assert len(titles) == 6
    for title, words in titles:
        assert f"## {title}\n\n{re.sub('</?code>', '`', words)}\n" in text


def test_the_code_in_the_model_card_opens_the_model(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = card(exported)
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    test = pd.read_parquet(exported / "test_set.parquet")
    names: dict[str, Any] = {"pixels": test.filter(like="pixel").to_numpy()}
    monkeypatch.chdir(exported)
    exec(code, names)
    right = np.mean(names["scores"].argmax(axis=1) == test["class"])
    assert right == json.loads(Path("evaluation.json").read_text())["accuracy"]


def test_the_data_card_has_croissants_fields_and_proves_the_files(exported: Path) -> None:
    found = json.loads((exported / "croissant.json").read_text())
    required = {"@context", "@type", "name", "description", "license", "url", "creator"}
    assert required <= set(found)
    assert found["@type"] == "sc:Dataset"
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert "Christopher J. C. Burges" in {one["name"] for one in found["creator"]}
    classes, *records = found["recordSet"]
    assert [one["classes/name"] for one in classes["data"]] == list("0123456789")
    for file, table in zip(found["distribution"], records, strict=True):
        content = (exported / file["contentUrl"]).read_bytes()
        assert file["@id"] == file["contentUrl"]
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
        assert file["encodingFormat"] == "application/x-parquet"
        columns = [one["source"]["extract"]["column"] for one in table["field"]]
        assert columns == list(pd.read_parquet(exported / file["@id"]).columns)
        assert {one["source"]["fileObject"]["@id"] for one in table["field"]} == {file["@id"]}
        assert len({one["@id"] for one in table["field"]}) == len(columns)


def test_the_cards_are_the_same_each_time_and_nothing_is_overwritten(
    exported: Path, furnished_forked: Forked, tmp_path: Path
) -> None:
    furnished_forked.json("export", str(tmp_path / "again"))
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()
    refused = furnished_forked.cli("export", str(exported))
    assert refused.returncode == 1
    assert "nothing is overwritten" in refused.stderr


def test_it_is_the_champion_that_is_exported_not_the_newest_model(
    furnished_forked: Forked, tmp_path: Path
) -> None:
    before = furnished_forked.json("champion")["model_version"]
    furnished_forked.edit("params.toml", 'preset = "fast"\n', 'preset = "fast"\nalpha = 1e-4\n')
    furnished_forked.json("refresh")
    furnished_forked.json("champion", "--rollback")
    furnished_forked.json("export", str(tmp_path / "old"))
    evaluation = json.loads((tmp_path / "old" / "evaluation.json").read_text())
    assert evaluation["model_version"] == before
    assert before in card(tmp_path / "old")[1]


def test_without_a_champion_it_is_named_what_to_do(forked: Forked, tmp_path: Path) -> None:
    refused = forked.cli("export", str(tmp_path / "none"))
    assert refused.returncode == 1
    assert "there is no champion yet: run `mnist-pipeline refresh`" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_where_a_file_is_damaged_nothing_is_written(
    furnished_forked: Forked, tmp_path: Path
) -> None:
    [file] = furnished_forked.data.glob("test_set/*/test_set.parquet")
    flip_a_byte(file)
    refused = furnished_forked.cli("export", str(tmp_path / "out"))
    assert refused.returncode == 1
    assert "test_set is damaged" in refused.stderr
    assert list((tmp_path / "out").iterdir()) == []
