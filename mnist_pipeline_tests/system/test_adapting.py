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
from mnist_pipeline.digits.sources.sample import Sample
from mnist_pipeline_tests.support import garments
from mnist_pipeline_tests.support.clones import ASSETS, Clone
from mnist_pipeline_tests.support.openml_server import OpenML, serve
from mnist_pipeline_tests.support.photos import encoded

SOURCES = "mnist_pipeline/digits/sources"
VARIABLES = {"MNIST_SOURCE": "sklearn"}
GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]  # fmt: skip


def follow(clone: Clone, part: str, anchor: str) -> None:
    """Do what a part of the guide describes; its TOML goes below a line of the params."""
    [file] = re.findall(r"^`(\S+)`:\n\n```python\n\"\"\"The source", part, re.M)
    module, imported, registered, params = re.findall(
        r"```(?:python|toml|text)\n(.*?)```", part, re.S
    )
    (clone.folder / file).write_text(module)
    registry = f"{SOURCES}/registry.py"
    clone.edit(registry, "    Infinite(),\n", "    Infinite(),\n" + registered)
    clone.edit(
        registry,
        "from mnist_pipeline.digits.sources.source",
        imported + "from mnist_pipeline.digits.sources.source",
    )
    clone.edit("params.toml", anchor, anchor + params)


@pytest.fixture(scope="module")
def parts() -> tuple[str, str]:
    """The parts of the guide, for scikit-learn's digits and for Fashion-MNIST."""
    guide = (PROJECT / "docs" / "adapting.md").read_text()
    first, second = guide.split("## Fashion-MNIST from OpenML")
    return first, second


@pytest.fixture(scope="module")
def adapted(parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the project after the guide's steps, run once."""
    clone = Clone.make(tmp_path_factory.mktemp("adapting") / "clone")
    follow(clone, parts[0], 'preset = "fast"\n')
    done = clone.json("run", **VARIABLES)
    assert done["status"] == "success"
    return clone


@contextlib.contextmanager
def drawing(clone: Clone, **variables: str) -> Iterator[http.client.HTTPConnection]:
    """The drawing page's server."""
    process = clone.popen("draw", "--port", "0", PYTHONUNBUFFERED="1", **variables)
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
    with drawing(adapted, **VARIABLES) as server:
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


def test_a_source_with_another_number_of_class_names_is_refused() -> None:
    with pytest.raises(TypeError, match="Cats has 2 class_names: a source has 10"):

        class Cats(Sample):
            class_names = ("cat", "no cat")


def test_more_cells_than_pixels_are_refused_with_what_to_set() -> None:
    with pytest.raises(
        FitError, match=r"\[9, 5, 3\], but images of 8 x 8 .* as in cells = \[6, 3\]"
    ):
        build(ModelParams(preset="accurate"), 8)


def test_a_source_that_there_is_not_is_named_with_those_that_there_are(adapted: Clone) -> None:
    refused = adapted.cli("status", MNIST_SOURCE="mnist")
    assert refused.returncode == 2
    assert "'sklearn'" in refused.stderr


@pytest.fixture(scope="module")
def fashion(
    parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Clone, dict[str, str]]:
    """A copy of the project after the steps for Fashion-MNIST, run once, and its variables.

    The server is gone then.
    """
    clone = Clone.make(tmp_path_factory.mktemp("fashion") / "clone")
    follow(clone, parts[1], "openml = 0.85\n")
    with serve(OpenML.of(garments.arff(1000), "Fashion-MNIST")) as openml:
        variables = {"MNIST_SOURCE": "fashion", "MNIST_OPENML_SERVER": openml.url}
        done = clone.json("run", **variables)
    assert done["status"] == "success"
    assert openml.downloads == 1
    return clone, variables


def test_fashion_mnist_is_downloaded_learned_and_promoted_above_its_floor(
    fashion: tuple[Clone, dict[str, str]],
) -> None:
    clone, variables = fashion
    assets = clone.json("status", **variables)["assets"]
    assert {one["key"]: one["status"] for one in assets} == dict.fromkeys(ASSETS, "fresh")
    assert len(list(clone.data.glob("raw_mnist/*/Fashion-MNIST.arff.gz"))) == 1
    [decision] = clone.json("champion", **variables)["history"]
    assert decision["outcome"] == "promoted"
    assert "beats the floor 0.8000" in decision["why"]
    again = clone.json("run", "--select", "raw_mnist", **variables)
    assert again["status"] == "success", "without a server the kept file is used"


def test_predict_names_the_class_of_a_picture_of_any_size(
    fashion: tuple[Clone, dict[str, str]], tmp_path: Path
) -> None:
    clone, variables = fashion
    pixels, labels = garments.images(10, seed=1)
    files = []
    for place, label in enumerate(labels):
        small = Image.fromarray(pixels[place].reshape(28, 28))
        large = Image.fromarray(255 - np.array(small.resize((300, 300))))
        for kind, image in {"small": small, "large": large}.items():
            files.append(str(tmp_path / f"{label}-{kind}.png"))
            image.save(files[-1])
    answers = clone.json("predict", *files, **variables)
    names = [GARMENTS[label] for label in labels for _ in range(2)]
    right = [one.get("name") == name for one, name in zip(answers, names, strict=True)]
    assert sum(right) >= 18, answers
    assert answers[-1]["digit"] == 9
    shown = clone.cli("predict", files[-1], **variables)
    assert shown.stdout.startswith("garment")
    assert re.search(r"^Ankle boot +\d", shown.stdout, re.M)
    (tmp_path / "empty.png").write_bytes(encoded(Image.new("L", (50, 50), 255)))
    empty = clone.cli("predict", str(tmp_path / "empty.png"), **variables)
    assert "shows no garment" in empty.stdout


def test_the_report_and_the_drawing_page_name_the_classes(
    fashion: tuple[Clone, dict[str, str]],
) -> None:
    clone, variables = fashion
    [file] = clone.data.glob("report/*/report.html")
    page = re.sub(r"base64,[^\"]*", "", file.read_text())
    assert "test garments right</title>" in page
    assert all(f'<th scope="row">{name}</th>' in page for name in GARMENTS)
    assert "Zalando" in page
    body = page[page.index("<body>") : page.index("<script>")]
    assert re.findall(r"\bdigits?\b(?!-title)", re.sub(r"<[^>]*>", "", body)) == []
    with drawing(clone, **variables) as server:
        server.request("GET", "/")
        drawn = server.getresponse().read().decode()
        assert "Draw a garment" in drawn
        assert "Ankle boot" in drawn
        server.request("GET", "/api/openapi.json")
        described = json.loads(server.getresponse().read())
    prediction = described["components"]["schemas"]["Prediction"]["properties"]
    assert prediction["name"]["enum"] == GARMENTS
