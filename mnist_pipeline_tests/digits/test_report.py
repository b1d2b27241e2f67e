"""The report: what it says, and how it looks and behaves in a browser."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, PdfMargins

from mnist_pipeline.digits import report
from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import split
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.evaluation.champion import Champion, Past
from mnist_pipeline.digits.model import prediction, training
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.report import AsOf, Evidence, Input
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.support.browser import SCHEMES, WIDTHS, opened

HTML = "<script>alert('x')</script><b>\"&"
"""What is not to become part of the page."""

AS_OF = AsOf(
    "2026-11-23 15:40 UTC",
    "run-1",
    [
        Past(1795448340, "", "refused", f"worse {HTML}", "m" * 32, Champion("n" * 32), 0.97),
        Past(1795361940, "", "promoted", "better", "n" * 32, Champion("n" * 32), 0.98765),
    ],
    [Input("train_set", "2026-11-23 15:38 UTC", "d" * 32, "c" * 32, {"numpy": "2.4"})],
)


def evidence_of(**params: object) -> Evidence:
    drawn = split(decode(sample.read()), test_size=0.2, random_state=42)
    chosen = ModelParams.model_validate(params)
    parts = (
        validation.hold_out(drawn.train, size=0.1, random_state=42)
        if chosen.hold_out
        else validation.all_rows(drawn.train)
    )
    model = training.fit(chosen, parts)
    predictions = prediction.predict(model, drawn.test)
    evaluation = metrics.evaluate(predictions)
    standing = Champion(model.data_version)
    return Evidence(drawn.train, drawn.test, model, predictions, evaluation, standing)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return evidence_of()


@pytest.fixture(scope="module")
def file(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the sample, as a file to open."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.render(evidence, AS_OF).html)
    return path


class Reader(HTMLParser):
    """Collects what a page would load, and the texts in place of its images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.alternatives: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        named = ("src", "srcset", "href", "action", "data", "poster")
        self.sources.extend(str(found[key]) for key in named if key in found)
        if tag == "img":
            self.alternatives.append(found.get("alt") or "")


def with_right_answers(evidence: Evidence, digit: int) -> Evidence:
    """The same where every digit of a class was predicted as what it is."""
    predictions = evidence.predictions
    right = np.where(predictions.label == digit, digit, predictions.prediction).astype(np.uint8)
    scores = predictions.scores.copy()
    scores[predictions.label == digit, digit] = scores.max() + 1
    corrected = dataclasses.replace(predictions, prediction=right, scores=scores)
    evaluation = metrics.evaluate(corrected)
    return dataclasses.replace(evidence, predictions=corrected, evaluation=evaluation)


def test_a_report_looks_the_same_under_any_matplotlibrc_and_leaves_no_figure_open(
    evidence: Evidence,
) -> None:
    page = report.render(evidence)
    with mpl.rc_context({"savefig.dpi": 150, "axes.facecolor": "pink"}):
        assert report.render(evidence).html == page.html
    assert plt.get_fignums() == []


def test_times_runs_code_and_past_models_are_shown_and_are_not_its_content(
    evidence: Evidence,
) -> None:
    plain, dated = report.render(evidence), report.render(evidence, AS_OF)
    for text in ("2026-11-23 15:40 UTC", "run-1", "98.77%", "numpy 2.4", "d" * 32, "c" * 32):
        assert text not in plain.html
        assert text in dated.html
    assert plain.data_version == dated.data_version
    assert "in the order in which they were decided" in dated.html
    one = dataclasses.replace(AS_OF, decisions=AS_OF.decisions[:1])
    assert "in the order in which they were decided" not in report.render(evidence, one).html
    other = dataclasses.replace(evidence, champion=Champion("n" * 32))
    assert report.render(other, AS_OF).data_version != dated.data_version


def test_it_shows_the_decision_about_this_model_and_how_the_champion_compares(
    evidence: Evidence,
) -> None:
    assert "Not decided on yet" in report.render(evidence, AS_OF).html
    own = dataclasses.replace(AS_OF.decisions[0], candidate=evidence.model.data_version)
    dated = dataclasses.replace(AS_OF, decisions=[own, *AS_OF.decisions])
    champion = Champion("n" * 32)
    start = report.render(dataclasses.replace(evidence, champion=champion), dated).html
    start = start.partition("<main>")[0]
    assert "<b>Refused:</b> worse" in start
    assert "the champion 98.77%" in start
    assert evidence.model.validated is not None
    assert f"this model got {evidence.model.validated.accuracy:.2%} right" in start


def test_it_opens_with_accuracy_service_data_and_params(evidence: Evidence) -> None:
    start = report.render(evidence).html.partition("<main>")[0]
    evaluation = evidence.evaluation
    low, high = evaluation.accuracy_interval
    assert f"{evaluation.accuracy:.2%} of 1,000 test digits right" in start
    assert f"95% interval {low:.2%} to {high:.2%}" in start
    assert "This model is the champion" in start
    for version in (evidence.train.data_version, evidence.test.data_version):
        assert version in start
    assert "preset fast" in start
    assert "times as many" not in start, "the tutorial's split is of all 70,000"
    refused = dataclasses.replace(evidence, champion=Champion("other", {HTML: HTML}))
    assert "This model is not the champion" in report.render(refused).html


def test_all_of_mnist_is_compared_with_the_tutorial(evidence: Evidence) -> None:
    def whole(part: str) -> object:
        value = getattr(evidence, part)
        return dataclasses.replace(value, origin=dataclasses.replace(value.origin, is_mnist=True))

    parts = {part: whole(part) for part in ("train", "test", "model", "predictions")}
    page = report.render(dataclasses.replace(evidence, **parts)).html  # type: ignore[arg-type]
    times = (1 - report.TUTORIAL_ACCURACY) / (1 - evidence.evaluation.accuracy)
    wrong = round((1 - report.TUTORIAL_ACCURACY) * 1000)
    table = page.partition('class="against"')[2].partition("</table>")[0]
    table = re.sub(r"(<[^>]+>)+", " ", table)
    assert f"(random_state 0) {wrong}, {times:.1f} times as many" in table
    assert f"this one {round((1 - evidence.evaluation.accuracy) * 1000)} " in table


def test_the_tutorials_pictures_are_among_the_digits(evidence: Evidence, tmp_path: Path) -> None:
    page = report.render(evidence).html
    shown = page.partition('id="tutorial"')[2].partition("</ul>")[0]
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    rows = [int(row) for row in re.findall(r"row (\d+)", shown)]
    train, test = evidence.train, evidence.test
    assert rows == [train.row_id[0], test.row_id[0], test.row_id[1]]
    for picture, pixels in zip(pictures, [train.pixels[0], *test.pixels[:2]], strict=True):
        file = tmp_path / "digit.png"
        file.write_bytes(base64.b64decode(picture))
        np.testing.assert_array_equal(255 - np.asarray(Image.open(file)).ravel(), pixels)


def test_it_is_one_file_that_loads_nothing_and_describes_every_image(evidence: Evidence) -> None:
    page = report.render(evidence, AS_OF).html
    reader = Reader(page)
    assert len(reader.alternatives) > 50
    assert all(reader.alternatives)
    foreign = [one for one in reader.sources if not one.startswith(("data:", "#"))]
    assert not foreign
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert len(page) < 4_000_000


def test_what_looks_like_html_comes_out_as_text(evidence: Evidence) -> None:
    model = dataclasses.replace(evidence.model, params=evidence.model.params | {"preset": HTML})
    blocked = Champion(HTML, {HTML: HTML})
    hostile = dataclasses.replace(evidence, model=model, champion=blocked)
    inputs = [Input(HTML, HTML, HTML, HTML, {HTML: HTML})]
    page = report.render(hostile, dataclasses.replace(AS_OF, inputs=inputs)).html
    assert HTML not in page
    assert "alert(" in page
    assert page.count("<script") == 2, "the digits of the cells, and the page's own"


@pytest.mark.parametrize("preset", ["tutorial", "scaled"])
def test_a_model_without_probabilities_or_with_pixels_for_features_has_a_report(
    preset: str,
) -> None:
    page = report.render(evidence_of(preset=preset, max_iter=5, tol=0.1)).html
    assert "The weights of each class" in page
    assert ("This model has no probabilities" in page) == (preset == "tutorial")


def test_a_class_without_mistakes_and_a_model_without_any_have_a_report(
    evidence: Evidence,
) -> None:
    no_zero_is_wrong = with_right_answers(evidence, 0)
    assert '<tr><th scope="row">0</th>' in report.render(no_zero_is_wrong).html
    perfect = evidence
    for digit in range(10):
        perfect = with_right_answers(perfect, digit)
    assert perfect.evaluation.accuracy == 1
    assert "None: every test digit is right." in report.render(perfect).html


def test_the_page_is_valid_html(file: Path, html_errors: Callable[[Path], list[str]]) -> None:
    assert html_errors(file) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_it_is_readable_in_both_schemes_on_phone_and_desktop(
    scheme: str,
    width: int,
    file: Path,
    chromium: Browser,
    violations: Callable[[Page], list[str]],
) -> None:
    shape = {"width": width, "height": 800}
    with opened(chromium, file.as_uri(), viewport=shape, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        assert dark == (scheme == "dark")
        shown = page.locator("#maps-title ~ figure img").evaluate("image => image.currentSrc")
        named = page.locator("#maps-title ~ figure source").get_attribute("srcset")
        assert (shown == named) == dark, "figures follow the scheme"
        page.locator("#matrix button").first.click()
        assert page.locator("#cell img").count() > 0
        assert violations(page) == []


def test_a_cell_shows_its_digits_most_confident_first(
    file: Path, evidence: Evidence, chromium: Browser
) -> None:
    given = evidence.predictions.confidence
    assert given is not None
    with opened(chromium, file.as_uri()) as page:
        for button in page.locator("#matrix button").all():
            true, predicted = (int(d) for d in (button.get_attribute("data-cell") or "").split())
            button.click()
            places = np.flatnonzero(
                (evidence.predictions.label == true)
                & (evidence.predictions.prediction == predicted)
            )
            surest = places[np.argsort(-given[places], kind="stable")][:30]
            rows = [int(text.split()[-1]) for text in page.locator("#cell li").all_inner_texts()]
            assert rows == evidence.predictions.row_id[surest].tolist()
            title = page.locator("#cell h3").inner_text()
            assert title.startswith(f"True digit {true}, predicted {predicted}: {len(places)}")


def test_the_worst_mistakes_are_all_there_with_label_prediction_confidence_and_row(
    file: Path, evidence: Evidence, chromium: Browser
) -> None:
    predictions = evidence.predictions
    wrong = np.flatnonzero(predictions.label != predictions.prediction)
    with opened(chromium, file.as_uri()) as page:
        tiles = page.locator("#mistakes li").all_inner_texts()
        drawn = page.locator("#mistakes img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert drawn == [28] * len(wrong)
    rows = [int(text.split("row ")[1]) for text in tiles]
    assert sorted(rows) == sorted(predictions.row_id[wrong].tolist())
    confidences = [float(re.findall(r"([\d.]+)%", text)[0]) for text in tiles]
    assert confidences == sorted(confidences, reverse=True)


def test_the_matrix_goes_by_keyboard(file: Path, chromium: Browser) -> None:
    with opened(chromium, file.as_uri()) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.hash") == "#matrix-title"
        page.locator("#matrix button").first.focus()
        cells = page.locator("#matrix button").evaluate_all("all => all.map(b => b.dataset.cell)")
        page.keyboard.press("ArrowRight")
        in_row = [cell for cell in cells if cell.startswith("0 ")]
        expected = in_row[1] if len(in_row) > 1 else "0 0"
        focused = page.evaluate("document.activeElement.dataset.cell")
        assert focused == expected
        page.keyboard.press("Enter")
        true, predicted = focused.split()
        title = page.locator("#cell h3").inner_text()
        assert title.startswith(f"True digit {true}, predicted {predicted}")


def test_the_matrix_has_axis_titles_and_totals(evidence: Evidence) -> None:
    table = report.render(evidence).html.partition('id="matrix"')[2].partition("</table>")[0]
    assert "predicted digit" in table
    assert "true digit" in table
    totals = [int(one.replace(",", "")) for one in re.findall(r'"total">([\d,]+)<', table)]
    counts = np.array(evidence.evaluation.confusion_matrix)
    assert totals == [*counts.sum(axis=1), *counts.sum(axis=0), counts.sum()]


def test_training_digits_are_shown_ten_a_row_a_class_a_row(evidence: Evidence) -> None:
    rows = re.findall(r'class="digits ten">(.*?)</ul>', report.render(evidence).html, re.S)
    shown = [re.findall(r"<b>(\d)</b>", row) for row in rows]
    assert shown == [[str(digit)] * 10 for digit in range(10)]


@pytest.mark.parametrize(
    ("media", "width"),
    [("screen", 360), ("screen", 390), ("screen", 1280), ("print", 718), ("print", 740)],
)
def test_nothing_is_cut_on_a_phone_a_screen_or_paper_also_with_counts_of_four_figures(
    media: Literal["screen", "print"],
    width: int,
    evidence: Evidence,
    tmp_path: Path,
    chromium: Browser,
) -> None:
    """As of all 70,000 digits. A4 and Letter have 718 and 740 pixels between margins of 10 mm."""
    counts = (14 * np.array(evidence.evaluation.confusion_matrix)).tolist()
    many = dataclasses.replace(evidence.evaluation, confusion_matrix=counts, n_test=14_000)
    file = tmp_path / "report.html"
    file.write_text(report.render(dataclasses.replace(evidence, evaluation=many), AS_OF).html)
    cut = """() => {
        const text = (one) => {
            const range = document.createRange();
            range.selectNodeContents(one);
            return range.getBoundingClientRect();
        };
        const edge = document.documentElement.clientWidth + 1;
        return [...document.querySelectorAll("body *")].filter((one) => {
            const box = one.getBoundingClientRect();
            const cell = one.matches(".matrix td, .matrix th:not(.axis), .matrix button, .scroll");
            const inner = cell && one.textContent.trim() ? text(one) : box;
            return box.right > edge || inner.right > box.right + 1 || inner.left < box.left - 1;
        }).map((one) => one.outerHTML.slice(0, 90));
    }"""
    with opened(chromium, file.as_uri(), viewport={"width": width, "height": 900}) as page:
        page.emulate_media(media=media)
        assert page.evaluate(cut) == []


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="needs pdftoppm of poppler-utils")
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_on_paper_the_matrix_is_on_the_first_page_and_no_page_but_the_last_is_half_empty(
    paper: str, file: Path, tmp_path: Path, chromium: Browser
) -> None:
    margin: PdfMargins = {"top": "10mm", "right": "10mm", "bottom": "10mm", "left": "10mm"}
    with opened(chromium, file.as_uri()) as page:
        page.pdf(path=tmp_path / "report.pdf", format=paper, margin=margin)
    subprocess.run(
        ["pdftoppm", "-r", "30", "-gray", "report.pdf", "page"], cwd=tmp_path, check=True
    )
    filled = []
    for one in sorted(tmp_path.glob("page-*.pgm")):
        with Image.open(one) as image:
            rows = np.flatnonzero((np.asarray(image) < 200).any(axis=1))
            filled.append(rows[-1] / image.height)
    assert 4 <= len(filled) <= 6
    assert min(filled[:-1]) > 0.7, filled
    text = subprocess.check_output(["pdftotext", "-l", "1", "report.pdf", "-"], cwd=tmp_path)
    for title in (b"Confusion matrix", b"Per class"):
        assert title in text


def test_the_contents_stay_in_sight(file: Path, chromium: Browser) -> None:
    with opened(chromium, file.as_uri()) as page:
        page.get_by_role("link", name="Card").click()
        box = page.get_by_role("navigation").bounding_box()
        assert box is not None
        assert box["y"] == 0
        assert page.locator("#card-title").bounding_box()["y"] > box["height"]  # type: ignore[index]


def test_it_prints_light_also_for_those_who_read_dark(file: Path, chromium: Browser) -> None:
    with opened(chromium, file.as_uri(), color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(251, 251, 249)"
        assert page.pdf()[:5] == b"%PDF-"


def test_the_report_of_a_run_names_its_inputs_their_code_and_the_decision(
    furnished: House,
) -> None:

    html = furnished.made("report").path.read_text()
    for asset in ("raw_mnist", "train_set", "sgd_model", "evaluation", "champion_model"):
        made = furnished.made(asset)
        assert f">{asset}</th>" in html
        assert made.data_version in html
        assert made.tags["dagster/code_version"] in html
    assert "Promoted:" in html
    for asset in ("train_set", "test_set", "sgd_model", "predictions", "evaluation"):
        shown = [str(value) for value in furnished.made(asset).metadata.values()]
        assert any(value.startswith("![") for value in shown), f"{asset} has a picture"
    assert re.search(r"As of \d{4}-\d\d-\d\d \d\d:\d\d UTC", html)
    assert json.loads(html.partition('id="cells">')[2].partition("</script>")[0])
