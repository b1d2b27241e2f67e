"""The guide docs/adapting.md, done in a copy of the project: other images than MNIST's."""

import contextlib
import http.client
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.errors import FitError
from mnist_pipeline.digits.model.pipeline import build
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline_tests.support.clones import ASSETS, Clone
from mnist_pipeline_tests.support.photos import encoded

SOURCES = "mnist_pipeline/digits/sources"
VARIABLES = {"MNIST_SOURCE": "sklearn"}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the project after the guide's steps, run once."""
    clone = Clone.make(tmp_path_factory.mktemp("adapting") / "clone")
    guide = (PROJECT / "docs" / "adapting.md").read_text()
    module, imported, registered, cells = re.findall(
        r"```(?:python|toml|text)\n(.*?)```", guide, re.S
    )
    (clone.folder / SOURCES / "sklearn_digits.py").write_text(module)
    registry = f"{SOURCES}/registry.py"
    clone.edit(registry, "    Infinite(),\n", "    Infinite(),\n" + registered)
    clone.edit(
        registry,
        "from mnist_pipeline.digits.sources.source",
        imported + "from mnist_pipeline.digits.sources.source",
    )
    clone.edit("params.toml", 'preset = "fast"\n', 'preset = "fast"\n' + cells)
    done = clone.json("run", **VARIABLES)
    assert done["status"] == "success"
    return clone


@contextlib.contextmanager
def drawing(clone: Clone) -> Iterator[http.client.HTTPConnection]:
    """The drawing page's server."""
    process = clone.popen("draw", "--port", "0", PYTHONUNBUFFERED="1", **VARIABLES)
    assert process.stdout is not None
    try:
        port = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert port, process.communicate()[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=60)
        with contextlib.closing(connection):
            yield connection
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()


def images(clone: Clone, part: str) -> tuple[np.ndarray, np.ndarray]:
    [file] = clone.data.glob(f"{part}_set/*/{part}_set.parquet")
    table = pd.read_parquet(file)
    assert list(table.columns) == ["row_id", *(f"pixel{n}" for n in range(1, 65)), "class"]
    return table.filter(like="pixel").to_numpy(), table["class"].to_numpy()


def test_the_whole_pipeline_runs_on_images_of_8_by_8_pixels(adapted: Clone) -> None:
    assets = adapted.json("status", **VARIABLES)["assets"]
    assert {one["key"]: one["status"] for one in assets} == dict.fromkeys(ASSETS, "fresh")
    [file] = adapted.data.glob("evaluation/*/evaluation.json")
    evaluation = json.loads(file.read_text())
    assert evaluation["n_test"] == 360
    assert evaluation["accuracy"] > 0.94
    train, _ = images(adapted, "train")
    assert (train.shape, train.min(), train.max()) == ((1437, 64), 0, 255)


def test_an_image_of_their_size_and_a_large_one_are_read(adapted: Clone, tmp_path: Path) -> None:
    pixels, labels = images(adapted, "test")
    files = []
    for place in range(8):
        small = 255 - pixels[place].reshape(8, 8)
        paper = Image.new("L", (640, 480), 225)
        paper.paste(
            Image.fromarray(small // 2 + 97).resize((300, 300), Image.Resampling.BICUBIC), (200, 90)
        )
        for name, image in {"small": Image.fromarray(small), "photo": paper}.items():
            file = tmp_path / f"{place}-{name}.png"
            file.write_bytes(encoded(image))
            files.append(str(file))
    found = adapted.json("predict", *files, **VARIABLES)
    right = [one["digit"] == labels[place // 2] for place, one in enumerate(found)]
    assert sum(right) >= 14, found
    shown = adapted.cli("predict", files[0], **VARIABLES)
    assert shown.returncode == 0, shown.stderr


def test_the_report_names_the_data_set_and_not_mnist(adapted: Clone) -> None:
    [file] = adapted.data.glob("report/*/report.html")
    page = file.read_text()
    card = page[page.index('id="card-title"') :]
    name = "Optical Recognition of Handwritten Digits"
    assert f"<title>{name}: " in page
    assert "1,797 digits" in page
    assert name in card
    assert "8 x 8 pixels" in card
    assert "CC BY 4.0" in card
    assert "MNIST" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_drawing_page_has_their_size(adapted: Clone) -> None:
    pixels, labels = images(adapted, "test")
    with drawing(adapted) as server:
        server.request("GET", "/")
        page = server.getresponse().read().decode()
        assert "8 x 8 pixels, prepared" in page
        assert 'width="8" height="8"' in page
        large = Image.fromarray(255 - pixels[0].reshape(8, 8)).resize((320, 320))
        server.request(
            "POST",
            "/api/predict?nearest=8",
            encoded(large),
            {"Origin": f"http://127.0.0.1:{server.port}"},
        )
        answer = json.loads(server.getresponse().read())
    assert len(answer["pixels"]) == 8
    assert answer["digit"] == labels[0]
    assert len(answer["nearest"]) == 8


def test_more_cells_than_pixels_are_refused_with_what_to_set() -> None:
    with pytest.raises(
        FitError, match=r"\[9, 5, 3\], but images of 8 x 8 .* as in cells = \[6, 3\]"
    ):
        build(ModelParams(preset="accurate"), 8)


def test_a_source_that_there_is_not_is_named_with_those_that_there_are(adapted: Clone) -> None:
    refused = adapted.cli("status", MNIST_SOURCE="mnist")
    assert refused.returncode == 2
    assert "'sklearn'" in refused.stderr
