"""The Dagster UI in a real browser: what people click, and what they see then."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from mnist_pipeline_tests.clones import Clone
from mnist_pipeline_tests.test_pipeline import ASSETS
from mnist_pipeline_tests.webserver import Webserver, running, until

GROUPS = ["source", "digits", "model", "evaluation"]


@pytest.fixture
def webserver(clone: Clone) -> Iterator[Webserver]:
    with running(["dagster", "dev"], clone) as started:
        yield started


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of the UI go: `make screenshots` keeps them for the docs."""
    chosen = request.config.getoption("--screenshots")
    return Path(chosen) if chosen else tmp_path


def graph(page: Page, webserver: Webserver) -> Locator:
    """Open the global asset graph with all groups unfolded; return its nodes."""
    groups = ",".join(f"global@global:{group}" for group in GROUPS)
    page.goto(f"{webserver.url}/asset-groups?expanded={quote(groups)}")
    nodes = page.locator("foreignObject")
    nodes.filter(has_text="champion_model").wait_for()
    return nodes


def keep(page: Page, file: Path, left: int, top: int, width: int, height: int) -> None:
    """Keep a picture of a part of the page, smaller and with few colours: for the docs."""
    page.wait_for_timeout(1000)  # until nothing moves any more
    page.screenshot(path=file, clip={"x": left, "y": top, "width": width, "height": height})
    with Image.open(file) as whole:
        scale = 1300 / whole.width
        smaller = whole.convert("RGB").resize((1300, round(scale * whole.height)))
    smaller.quantize(128, Image.Quantize.FASTOCTREE).save(file, optimize=True)


def finished(webserver: Webserver, count: int) -> set[str]:
    """Wait until so many runs have ended well; return the assets of the newest."""

    def ended() -> list[dict[str, object]]:
        runs = webserver.runs()
        over = all(run["status"] in {"SUCCESS", "FAILURE", "CANCELED"} for run in runs)
        return runs if len(runs) == count and over else []

    newest, *_ = until(ended)
    assert newest["status"] == "SUCCESS"
    return {str(key) for key in newest["assets"]}


def test_materialize_look_edit_reload_and_materialize_what_is_unsynced(
    webserver: Webserver, clone: Clone, chromium: Browser, screenshots: Path
) -> None:
    page = chromium.new_page(viewport={"width": 2600, "height": 1400})
    page.set_default_timeout(30_000)
    graph(page, webserver)
    page.get_by_role("button", name="Materialize all").click()
    assert finished(webserver, 1) in (set(ASSETS), set())

    nodes = graph(page, webserver)
    for asset in ASSETS:
        nodes.filter(has_text=asset).filter(has_text="Materialized").first.wait_for()
    keep(page, screenshots / "asset-graph.png", 580, 230, 1960, 950)

    page.goto(f"{webserver.url}/assets/evaluation")
    page.get_by_role("button", name="Plots").click()
    for plot in ("accuracy", "log_loss", "seconds", "size_bytes"):
        page.get_by_text(plot, exact=True).first.wait_for()
    assert page.locator("canvas").count() >= 8
    page.get_by_text("accuracy", exact=True).first.scroll_into_view_if_needed()
    keep(page, screenshots / "evaluation-plots.png", 240, 0, 1800, 1200)
    page.get_by_text("evaluation.py").first.wait_for()
    page.get_by_role("button", name="Table").click()
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.get_by_alt_text("confusion matrix")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
    keep(page, screenshots / "evaluation-picture.png", 240, 0, 1800, 1060)

    clone.edit("params.toml", "size = 0.1\n", "size = 0.15\n")
    nodes = graph(page, webserver)
    page.get_by_role("button", name="Reload definitions").click()
    until(lambda: webserver.stale()["sgd_model"] == "STALE")
    nodes = graph(page, webserver)
    nodes.filter(has_text="sgd_model").filter(has_text="Unsynced").wait_for()
    unsynced = [
        one for one in ASSETS if nodes.filter(has_text=one).filter(has_text="Unsynced").count()
    ]
    assert unsynced == ["sgd_model"]
    keep(page, screenshots / "unsynced.png", 580, 230, 1960, 950)

    button = page.get_by_role("button", name="Materialize all").bounding_box()
    assert button is not None
    page.mouse.click(button["x"] + button["width"] + 14, button["y"] + button["height"] / 2)
    page.get_by_role("menuitem").filter(has_text="Materialize unsynced").click()
    page.get_by_role("button", name="Materialize 1 asset").click()
    assert finished(webserver, 2) == {"sgd_model"}
    nodes = graph(page, webserver)
    nodes.filter(has_text="predictions").filter(has_text="Unsynced").wait_for()
    assert webserver.stale()["sgd_model"] == "FRESH"
    page.close()
