"""The Dagster UI: what people click in a real browser, and what they see then.

One `mnist-pipeline ui` and one page for all tests. Each test leaves everything up to date.
"""

import shutil
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLong

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline_tests.conftest import flip_a_byte
from mnist_pipeline_tests.support.clones import ASSETS, FAST, NEVER_REUSED, Clone
from mnist_pipeline_tests.support.photos import encoded, enlarged
from mnist_pipeline_tests.support.webserver import Webserver, running, until

SPLITS = {"train_set", "test_set"}
FROM_THE_MODEL_ON = ASSETS - SPLITS - {"raw_mnist"}
GROUPS = ["digits", "model", "evaluation", "release"]

VARIANTS = """
[variants.small]
cells = [4]
max_iter = 3
[variants.poor]
preset = "scaled"
max_iter = 5
"""


@dataclass
class Ui:
    """A page of the UI over a copy of the project."""

    clone: Clone
    webserver: Webserver
    page: Page

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.webserver.url}{path}")
        return self.page

    def graph(self) -> Locator:
        """Open the global asset graph with all groups unfolded; return its nodes."""
        groups = ",".join(f"global@global:{group}" for group in GROUPS)
        self.open(f"/asset-groups?expanded={quote(groups)}")
        nodes = self.page.locator("foreignObject")
        for asset in ("report", "champion_model", "raw_mnist"):
            nodes.filter(has_text=asset).filter(has_text="Latest event").wait_for()
        return nodes

    def wait_until_shown(self, word: str, assets: set[str]) -> None:
        """Open the graph; return when a word is in the nodes of these assets and of no other."""
        nodes = self.graph().filter(has_text=word)

        def shown() -> set[str]:
            return {one for one in ASSETS if nodes.filter(has_text=one).count()}

        until(lambda: shown() == assets)

    def reload_definitions(self) -> None:
        """Click the button on the graph's page."""
        self.graph()
        self.page.get_by_role("button", name="Reload definitions").click()
        self.page.get_by_text("Definitions reloaded!").wait_for()

    def unsynced(self) -> Locator | None:
        """Open the dialog `Materialize unsynced`; return it, or None where it has no assets."""
        self.graph()
        button = self.page.get_by_role("button", name="Materialize all").bounding_box()
        assert button is not None
        left, middle = button["x"] + button["width"] + 14, button["y"] + button["height"] / 2
        self.page.mouse.click(left, middle)
        self.page.get_by_role("menuitem").filter(has_text="Materialize unsynced").click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Materialize unsynced assets")
        nothing = dialog.get_by_text("All assets are up to date")
        dialog.get_by_role("button", name="Materialize").or_(nothing).first.wait_for()
        return None if nothing.count() else dialog

    def new_run(self, click: Callable[[], None]) -> dict[str, Any]:
        """Click, wait for the run that this launches, and return it when it is over."""
        before = {run["runId"] for run in self.clicked()}
        click()

        def new() -> list[dict[str, Any]]:
            return [run for run in self.clicked() if run["runId"] not in before]

        runs = until(new)
        assert len(runs) == 1, runs
        [run] = runs
        self.webserver.over(run["runId"])
        [run] = new()
        return dict(run)

    def clicked(self) -> list[dict[str, Any]]:
        """The runs that a click launched: a tick may launch others meanwhile."""
        return [run for run in self.webserver.runs() if "dagster/from_ui" in run["tags"]]

    def computed(self, run: dict[str, Any]) -> set[str]:
        """Return what a run that must have ended well computed, and did not only reuse."""
        assert run["status"] == "SUCCESS", self.webserver.log(run["runId"])
        return set(self.webserver.computed_and_reused(run["runId"])[0])

    def click_materialize_all(self) -> None:
        self.graph()
        self.page.get_by_role("button", name="Materialize all").click()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clone, Webserver]]:
    """A copy of the project in which nothing was made yet, in a running UI."""
    clone = Clone.make(tmp_path_factory.mktemp("ui") / "clone")
    with (clone.folder / "settings.env").open("a") as file:
        file.write("MNIST_RETRAIN_CRON=0 3 * * 1\n")
    environment = clone.environment(MNIST_RETRAIN_CRON="* * * * *")
    with running(["mnist_pipeline.cli", "ui"], clone.folder, environment) as webserver:
        yield clone, webserver


@pytest.fixture(scope="module")
def materialized(started: tuple[Clone, Webserver]) -> str:
    """The run, launched as the UI does, that materializes everything for the first time."""
    run_id = started[1].materialize()
    assert started[1].over(run_id) == "SUCCESS", started[1].log(run_id)[-3000:]
    return run_id


@pytest.fixture(scope="module")
def ui(started: tuple[Clone, Webserver], materialized: str, chromium: Browser) -> Iterator[Ui]:
    """Everything was materialized once, in the UI."""
    page = chromium.new_page(viewport={"width": 2600, "height": 1400})
    page.set_default_timeout(120_000)
    yield Ui(*started, page)
    page.close()


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of the UI go: `make screenshots` keeps them for the docs."""
    chosen = request.config.getoption("--screenshots")
    return Path(chosen) if chosen else tmp_path


def keep(page: Page, file: Path, left: int, top: int, width: int, height: int) -> None:
    """Keep a picture of a part of the page, smaller and with few colours: for the docs."""
    page.wait_for_timeout(1000)  # until nothing moves any more
    page.screenshot(path=file, clip={"x": left, "y": top, "width": width, "height": height})
    with Image.open(file) as whole:
        scale = 1300 / whole.width
        smaller = whole.convert("RGB").resize((1300, round(scale * whole.height)))
    smaller.quantize(128, Image.Quantize.FASTOCTREE).save(file, optimize=True)


def append(clone: Clone, module: str) -> None:
    """Edit a module of the clone without an effect on what it computes, never the same way."""
    [path] = (clone.folder / "mnist_pipeline" / "digits").rglob(module)
    path.write_text(f"{path.read_text()}\n_EDITED = {time.time_ns()}\n")


def linked_from_the_timeline(ui: Ui, run_id: str) -> bool:
    """Open the timeline; return whether a batch in the row of `refresh` links to the run.

    Runs close in time share a batch. The next hour's ticks of a schedule are batches too, also
    after it was stopped: the page keeps what it knew of it for a while.
    """
    page = ui.open("/timeline")
    page.get_by_role("button", name="1hr").click()
    refresh = page.get_by_title("refresh", exact=True)
    row = page.locator("[class*=timelineRowContainer]").filter(has=refresh)
    batches = row.locator("[aria-haspopup=menu]")
    batches.first.wait_for()
    unfolded = page.get_by_role("link", name="View all")
    try:
        for batch in batches.all():  # from left to right: the runs before the ticks
            batch.hover(force=True, timeout=5000)
            unfolded.wait_for(timeout=5000)
            if page.locator(f"a[href='/runs/{run_id}']").count():
                return True
            page.mouse.move(0, 0)
            unfolded.wait_for(state="hidden", timeout=5000)
    except TooLong:  # the row was drawn anew meanwhile
        pass
    return False


def assert_on_timeline_and_job_page(ui: Ui, run_id: str) -> None:
    """Assert that both show the run; leave the job's page open."""
    until(lambda: linked_from_the_timeline(ui, run_id))
    page = ui.open("/locations/mnist_pipeline/jobs/refresh/runs")
    page.get_by_role("link", name=run_id[:8]).wait_for()
    assert not page.get_by_text("owner_process").count()


def assert_executes_again(ui: Ui, run_id: str) -> None:
    """Click a run on the job's page and `Re-execute all` on its own."""
    page = ui.page
    page.get_by_role("link", name=run_id[:8]).click()
    again = page.get_by_role("button", name="Re-execute all")
    run = ui.new_run(again.click)
    assert run["tags"]["dagster/parent_run_id"] == run_id
    assert ui.computed(run) <= NEVER_REUSED
    page.wait_for_url(f"**/runs/{run['runId']}")
    page.get_by_text("Succeeded (").wait_for()


def test_before_the_first_run_the_pages_name_what_makes_a_champion_and_a_report(
    started: tuple[Clone, Webserver],
) -> None:
    _, webserver = started
    for status, path in ((503, "/"), (503, "/champion"), (503, "/api"), (404, "/report")):
        request = urllib.request.Request(
            f"{webserver.url}/digits{path}", headers={"Accept": "text/html"}
        )
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(request, timeout=60)
        assert answer.value.code == status
        text = answer.value.read().decode()
        assert "here is no " in text
        assert "run `mnist-pipeline refresh`" in text


def test_the_ui_loads_what_the_settings_choose_and_shares_its_history_with_the_command_line(
    started: tuple[Clone, Webserver], materialized: str
) -> None:
    clone, webserver = started
    repository = webserver.repository()
    assert {node["assetKey"]["path"][0] for node in repository["assetNodes"]} == ASSETS
    assert {"refresh", "recompute_all"} <= {job["name"] for job in repository["jobs"]}
    assert webserver.cron("retraining") == "* * * * *", "the environment beats settings.env"
    # settings.env chooses the sample; the command line finds the same history in the same home
    assert [path.name for path in clone.data.glob("raw_mnist/*/*.gz")] == ["mnist_5k.csv.gz"]
    assert (clone.data / "dagster_home" / "history" / "runs.db").exists()
    made = clone.json("history", "--limit", "100")["materializations"]
    assert {one["asset"] for one in made} == ASSETS
    assert [one["run_id"] for one in made] == [materialized] * len(ASSETS)
    assert {one["trigger"] for one in made} == {"the UI"}
    assert {found["status"] for found in clone.status().values()} == {"fresh"}


def test_a_run_of_the_command_line_is_on_timeline_and_job_page_and_executes_again_there(
    ui: Ui,
) -> None:
    append(ui.clone, "figures.py")
    ui.clone.json("refresh")
    run = ui.webserver.runs()[0]
    assert run["tags"]["mnist_pipeline/trigger"] == "mnist-pipeline refresh"
    ui.reload_definitions()
    assert_on_timeline_and_job_page(ui, run["runId"])
    assert_executes_again(ui, run["runId"])


def test_a_link_on_its_asset_opens_the_report_and_the_api_predicts_beneath_the_ui(
    ui: Ui, tmp_path: Path
) -> None:
    link = ui.open("/assets/report").get_by_role("link", name="/digits/report", exact=True)
    with ui.page.context.expect_page() as opened:
        link.click()
    report = opened.value
    assert report.url == f"{ui.webserver.url}/digits/report"
    report.get_by_role("heading", name="test digits right").wait_for()
    report.goto(f"{ui.webserver.url}/digits")
    [file] = ui.clone.data.glob("test_set/*/test_set.parquet")
    test = Digits.read(file)
    digit = tmp_path / "digit.png"
    digit.write_bytes(encoded(enlarged(test.pixels[0], 300)))
    report.set_input_files("#file", digit)
    report.wait_for_selector(f'body[data-digit="{test.labels[0]}"]')
    report.close()


def test_an_asset_shows_plots_pictures_and_its_source(ui: Ui, screenshots: Path) -> None:
    nodes = ui.graph()
    for asset in ASSETS:
        nodes.filter(has_text=asset).filter(has_text="Materialized").first.wait_for()
    keep(ui.page, screenshots / "asset-graph.png", 580, 350, 1960, 800)
    page = ui.open("/assets/evaluation")
    page.get_by_role("button", name="Plots").click()
    for plot in ("accuracy", "log_loss", "seconds", "size_bytes"):
        page.get_by_text(plot, exact=True).first.wait_for()
    assert page.locator("canvas").count() >= 8
    page.get_by_text("accuracy", exact=True).first.scroll_into_view_if_needed()
    keep(page, screenshots / "evaluation-plots.png", 240, 0, 1650, 1200)
    page.locator("a[href*='assets/evaluation.py']").wait_for()
    page.get_by_role("button", name="Table").click()
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.get_by_alt_text("confusion matrix")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
    keep(page, screenshots / "evaluation-picture.png", 240, 0, 1650, 1060)


def test_a_check_runs_alone_from_its_tab_and_finds_a_flipped_byte(ui: Ui) -> None:
    flip_a_byte(Path(ui.clone.status()["report"]["path"]))
    page = ui.open("/assets/report?view=checks")
    page.get_by_text("file_is_intact").first.click()
    run = ui.new_run(page.get_by_text("Execute", exact=True).click)
    assert ui.computed(run) == set()
    page.get_by_text("report is damaged: ").first.wait_for()
    assert ui.clone.status()["report"]["status"] == "damaged"
    assert ui.clone.json("refresh")["materialized"] == ["report"]
    assert ui.clone.status("--verify")["report"]["status"] == "fresh"


def params(old: str, new: str) -> Callable[[Clone], None]:
    return lambda clone: clone.edit("params.toml", old, new)


def module(name: str) -> Callable[[Clone], None]:
    return lambda clone: append(clone, name)


@pytest.mark.parametrize(
    ("edit", "first", "computed"),
    [
        pytest.param(
            params(FAST, f"{FAST}alpha = 2e-5\n"),
            {"sgd_model"},
            FROM_THE_MODEL_ON,
            id="model.alpha",
        ),
        pytest.param(
            module("figures.py"),
            {"report"},
            {"report"},
            id="figures",
            # the same steps as of the ARFF reader
            marks=pytest.mark.slow,
        ),
        pytest.param(
            module("arff.py"),
            SPLITS,
            SPLITS,
            id="ARFF reader",
        ),
        pytest.param(
            params("\nsize = 0.1\n", "\nsize = 0.15\n"),
            {"sgd_model"},
            FROM_THE_MODEL_ON,
            id="validation.size",
            # the same steps as of model.alpha
            marks=pytest.mark.slow,
        ),
        pytest.param(
            params("test_size = 0.2\nrandom_state = 42", "test_size = 0.2\nrandom_state = 7"),
            SPLITS,
            ASSETS - {"raw_mnist"},
            id="split.random_state",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_materialize_unsynced_until_nothing_is_computes_each_asset_once(
    ui: Ui,
    edit: Callable[[Clone], None],
    first: set[str],
    computed: set[str],
    screenshots: Path,
) -> None:
    edit(ui.clone)
    ui.reload_definitions()
    ui.wait_until_shown("Unsynced", first)
    if first == {"sgd_model"}:
        keep(ui.page, screenshots / "unsynced.png", 580, 350, 1960, 800)
    every: Counter[str] = Counter()
    while dialog := ui.unsynced():
        button = dialog.get_by_role("button", name="Materialize")
        every.update(ui.computed(ui.new_run(button.click)))
    assert every == Counter(computed)
    assert {one["status"] for one in ui.clone.status().values()} == {"fresh"}


def undo_all(clone: Clone) -> None:
    """Undo all edits of the clone."""
    for file in ("params.toml", "mnist_pipeline"):
        source, copy = PROJECT / file, clone.folder / file
        if source.is_dir():
            shutil.rmtree(copy)
            shutil.copytree(source, copy)
        else:
            shutil.copy(source, copy)


def test_materialize_all_computes_nothing_for_edits_undone_and_else_what_refresh_computes(
    ui: Ui,
) -> None:
    undo_all(ui.clone)
    ui.reload_definitions()
    run = ui.new_run(ui.click_materialize_all)
    assert ui.computed(run) == NEVER_REUSED
    assert set(ui.webserver.stale().values()) == {"FRESH"}
    assert {one["status"] for one in ui.clone.status().values()} == {"fresh"}

    append(ui.clone, "figures.py")
    assert ui.clone.json("refresh", "--dry-run")["planned"] == ["report"]
    ui.reload_definitions()
    run = ui.new_run(ui.click_materialize_all)
    assert ui.computed(run) == {"report"} | NEVER_REUSED
    assert ui.clone.json("refresh")["materialized"] == []


def test_a_refresh_after_a_failed_attempt_turns_the_graph_green(ui: Ui) -> None:
    ui.clone.edit("params.toml", "least_accuracy = 0.5\n", "least_accuracy = 0.9999\n")
    assert ui.clone.cli("refresh").returncode == 1
    ui.wait_until_shown("Failed", {"evaluation", "champion_model", "report"})
    ui.clone.edit("params.toml", "least_accuracy = 0.9999\n", "least_accuracy = 0.5\n")
    refreshed = ui.clone.json("refresh")
    assert set(refreshed["materialized"]) <= NEVER_REUSED
    ui.wait_until_shown("Materialized", ASSETS)


def test_a_tick_of_the_schedule_is_a_run_whose_page_shows_all_steps(ui: Ui) -> None:
    page = ui.open("/locations/mnist_pipeline/schedules/retraining")
    switch = page.get_by_role("checkbox")
    switch.dispatch_event("click")

    def ticked() -> list[str]:
        tag = "dagster/schedule_name"
        return [run["runId"] for run in ui.webserver.runs() if tag in run["tags"]]

    # the first one: on a slow machine the next minute's tick may have been too
    run_id = until(ticked)[-1]
    switch.dispatch_event("click")
    expect(switch).not_to_be_checked()
    ui.webserver.stop("schedule", "retraining")  # the page may be ahead of the daemon
    assert ui.webserver.over(run_id) == "SUCCESS"
    assert set(ui.webserver.computed_and_reused(run_id)[0]) == NEVER_REUSED
    [newest] = ui.clone.json("history", "--limit", "1")["materializations"]
    assert newest["trigger"] == "schedule retraining"
    assert_on_timeline_and_job_page(ui, run_id)
    page.get_by_role("link", name=run_id[:8]).click()
    page.get_by_text("Launched by").wait_for()
    # eight assets, and the check of their files
    page.get_by_text("Succeeded (9)").click()
    for asset in ASSETS:
        page.get_by_text(asset, exact=True).first.wait_for()


def test_materialize_all_fits_the_variants_too_in_one_run_and_asks_for_no_partitions(
    ui: Ui,
) -> None:
    params = ui.clone.folder / "params.toml"
    params.write_text(params.read_text() + VARIANTS)
    ui.reload_definitions()
    experiments = {"candidate/small", "candidate/poor", "leaderboard"}
    until(lambda: experiments <= set(ui.webserver.stale()))
    ui.graph()
    # the page shows what it knew before, until it has asked
    ui.page.get_by_text("experiments").first.wait_for()
    run = ui.new_run(ui.page.get_by_role("button", name="Materialize all").click)
    assert ui.computed(run) == experiments | NEVER_REUSED
    assert set(ui.webserver.stale().values()) == {"FRESH"}
    # the command line finds nothing more to fit
    compared = ui.clone.json("compare")
    assert compared["fitted"] == []
    found = [one["variant"] for one in compared["entries"]]
    assert set(found) == {"small", "poor", "[model]", "(champion)"}
    assert found[-1] == "poor"
    assert not compared["left_out"]
    # the job on its page
    page = ui.open("/locations/mnist_pipeline/jobs/experiments")
    run = ui.new_run(page.get_by_role("button", name="Materialize all").click)
    assert ui.computed(run) == set()
    assert set(ui.webserver.materialized(run["runId"])) == experiments
