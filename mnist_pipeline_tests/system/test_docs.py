"""README and docs: a site without dead links, reference pages as the code is, valid commands."""

import contextlib
import dataclasses
import functools
import http.server
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import dagster as dg
import pytest
from playwright.sync_api import Browser

from mnist_pipeline.cli.main import cli
from mnist_pipeline.cli.output import Command
from mnist_pipeline.config.params import Params
from mnist_pipeline.config.settings import PROJECT, Settings
from mnist_pipeline.digits.evaluation.champion import Past
from mnist_pipeline.digits.evaluation.leaderboard import Entry
from mnist_pipeline.digits.evaluation.metrics import Evaluation
from mnist_pipeline_tests.support import reference
from mnist_pipeline_tests.support.browser import SCHEMES, WIDTHS, opened
from mnist_pipeline_tests.support.clones import Clone, Forked
from mnist_pipeline_tests.support.pages import PAGES, blocks

FOLLOWED = {"docs/adapting.md", "docs/engine.md"}
"""Pages with TOML that is not a whole params file; other tests do what these pages describe."""

RETIRED = (
    "fresh|hangs from|comes out as it was|waves?|guards?|verdicts?|saw|told|tells?|heard|judged?|"
    "somebody|nobody|whoever|he|in service|rivals?|rulings?|bars?|barred|doors?|houses?|is none|"
    "are none|mend(?:s|ed)?|of now|of before|set aside|says?|said"
)
"""Those of the glossary that have no other meaning here, as `make`, `room`, `below` have."""


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and the anchors that it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found.get("id") or "", found.get("name") or ""}
        if link := found.get("href"):
            (self.links if tag == "a" else self.loaded).add(link)
        if link := found.get("src"):
            self.loaded.add(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by `make docs` in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "notebooks"):
        shutil.copytree(PROJECT / name, folder / name)
    named = [PROJECT / name for name in ("Makefile", "zensical.toml", "LICENSE")]
    for file in [*named, *PROJECT.glob("*.md")]:
        shutil.copy(file, folder)
    command = ["make", "docs", f"BIN={Path(sys.executable).parent}", "--old-file=.venv/dev.stamp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    """Every page of the site but that of a missing page."""
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_link_and_anchor_within_readme_docs_and_changelog_leads_somewhere(
    site: Path, built: dict[Path, Page]
) -> None:
    dead = []
    for file, page in built.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchor = unquote(parts.fragment)
            if target.is_dir():
                target /= "index.html"
            found = target.is_file() and (not anchor or anchor in built[target].anchors)
            if not found:
                dead.append(f"{file.relative_to(site)}: {link}")
    assert dead == []


def test_every_page_is_in_the_navigation_and_loads_nothing_from_elsewhere(
    built: dict[Path, Page],
) -> None:
    config = tomllib.loads((PROJECT / "zensical.toml").read_text())
    assert set(re.findall(r"[\w/-]+\.md", str(config["project"]["nav"]))) == set(PAGES)
    assert len(built) == len(PAGES)
    loaded = {link for page in built.values() for link in page.loaded}
    assert loaded
    assert [link for link in loaded if urlsplit(link).scheme or urlsplit(link).netloc] == []


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_fit_phone_and_desktop_in_light_and_dark_without_errors(
    site: Path, chromium: Browser
) -> None:
    with served(site) as url:
        for scheme in SCHEMES:
            for width in WIDTHS.values():
                size = {"width": width, "height": 800}
                with opened(
                    chromium, f"{url}/index.html", viewport=size, color_scheme=scheme
                ) as page:
                    for name in ("index", "docs/params", "docs/api", "docs/reliability"):
                        page.goto(f"{url}/{name}.html", wait_until="networkidle")
                        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
                        channels = [int(one) for one in re.findall(r"\d+", ground)[:3]]
                        assert (sum(channels) < 384) == (scheme == "dark")


def test_the_generated_pages_are_as_the_code_is_and_every_param_has_a_meaning() -> None:
    for file, text in reference.pages().items():
        assert file.read_text() == text, "run python -m mnist_pipeline_tests.support.reference"
    assert re.findall(r"^\| `\S+` \|.*\|  \|$", PAGES["docs/params.md"], re.MULTILINE) == []


def test_the_page_of_json_documents_names_every_key() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", PAGES["docs/json.md"], re.MULTILINE))
    keys = {
        name: set(command.nothing)
        for name, command in cli.commands.items()
        if isinstance(command, Command) and command.nothing is not None
    }
    for name, kind in {"champion": Past, "compare": Entry, "evaluation.json": Evaluation}.items():
        keys.setdefault(name, set()).update(one.name for one in dataclasses.fields(kind))
    lacking = {name: [one for one in keys[name] if f"`{one}`" not in rows[name]] for name in keys}
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_no_retired_word_is_on_the_page(name: str) -> None:
    # what is code is a name, such as that of a state in JSON
    prose = re.sub(r"```.*?```|`[^`]*`", "", PAGES[name], flags=re.DOTALL)
    assert re.findall(rf"\b(?:{RETIRED})\b", prose, re.IGNORECASE) == []


def commands() -> Iterator[list[str]]:
    """Yield each command of a console on the pages, as words without variables before it."""
    for line in [line for block in blocks("console") for line in block.commands]:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        yield words


def test_every_command_line_of_a_console_is_one_that_the_command_line_takes() -> None:
    taken = 0
    for words in commands():
        if not words[0].endswith("mnist-pipeline"):
            continue
        name, *arguments = words[1:]
        try:
            cli.commands[name].make_context(name, arguments)
        except (click.UsageError, KeyError) as error:
            pytest.fail(f"{' '.join(words)}: {error}")
        taken += 1
    assert taken > 20


def test_every_command_option_target_and_module_that_is_named_exists() -> None:
    spans = {one for text in PAGES.values() for one in re.findall(r"`([^`\n]+)`", text)}
    named = [one.split() for one in spans] + list(commands())
    targets = set(re.findall(r"^([a-z0-9-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for words in named:
        first, *more = words
        match first.rpartition("/")[2], more:
            case "mnist-pipeline", [name, *options] if name[0] not in "-.":
                command = cli.commands.get(name)
                params = command.params if command else []
                known = {one for param in params for one in [*param.opts, *param.secondary_opts]}
                given = {one.partition("=")[0] for one in options if one.startswith("--")}
                if not command or given - known - {"--help"}:
                    wrong.append(words)
            case "make", [target, *_] if target[0] != "." and "=" not in target:
                if target not in targets:
                    wrong.append(words)
            case "python" | "python3", ["-m", module, *_] if module not in {"venv", "http.server"}:
                if importlib.util.find_spec(module) is None:
                    wrong.append(words)
    assert wrong == []


def test_every_page_and_variable_that_code_or_a_page_names_exists() -> None:
    files = [
        *PROJECT.glob("*.toml"),
        *PROJECT.glob("*.yaml"),
        PROJECT / "settings.env.example",
        *(PROJECT / "deploy").glob("*.*"),
        *(PROJECT / "mnist_pipeline").rglob("*.py"),
    ]
    code = "\n".join(file.read_text() for file in files)
    assert set(re.findall(r"\bdocs/[\w-]+\.md", code)) <= set(PAGES)
    defined = {one.upper() for one in re.findall(r"\bmnist_\w+", code, re.IGNORECASE)}
    defined |= {f"MNIST_{name}".upper() for name in Settings.model_fields}
    used = {one for text in PAGES.values() for one in re.findall(r"\bMNIST_[A-Z]\w*", text)}
    assert used - defined == set()


def test_every_block_of_toml_is_a_valid_params_file_and_every_one_of_python_compiles(
    tmp_path: Path,
) -> None:
    for block in blocks("toml"):
        if block.page not in FOLLOWED:
            (tmp_path / "params.toml").write_text(block.text)
            Params.load(tmp_path / "params.toml")
    for block in blocks("python"):
        compile(block.text, block.page, "exec")


def same(text: str) -> str:
    """Return what is printed without what differs from run to run: numbers, folders, digests."""
    return re.sub(r"[\d.]+", "0", re.sub(r"\S*(/report/)\w+", r"data\1", text))


def test_the_tutorial_prints_what_it_shows(forked: Forked) -> None:
    page = PAGES["docs/tutorial.md"]
    [model] = [block.text for block in blocks("toml") if block.page == "docs/tutorial.md"]
    [line] = [one for one in model.splitlines() if one.startswith("alpha")]
    preset = 'preset = "fast"\n'
    steps = re.split(r"^```console\n\$ (?:make|\S+/mnist-pipeline) (.*)\n", page, flags=re.M)
    for before, command, shown in zip(steps[::2], steps[1::2], steps[2::2], strict=False):
        if "add a line" in before:
            forked.edit("params.toml", preset, f"{preset}{line}\n")
        if "Remove the line" in before:
            forked.edit("params.toml", f"{preset}{line}\n", preset)
        done = forked.cli(*shlex.split(command.replace(" --open", "")))
        assert done.returncode == 0, done.stderr
        if output := shown.partition("```")[0]:
            assert same(done.stdout) == same(output), command


def test_a_copy_of_the_data_folder_is_up_to_date_elsewhere_without_the_original(
    furnished_forked: Forked, tmp_path: Path
) -> None:
    elsewhere = shutil.move(furnished_forked.data, tmp_path / "elsewhere")
    assets = furnished_forked.json("status", "--verify", MNIST_DATA_DIR=str(elsewhere))["assets"]
    assert {one["status"] for one in assets} == {"fresh"}
    [newest] = furnished_forked.json("champion", MNIST_DATA_DIR=str(elsewhere))["history"]
    assert newest["outcome"] == "promoted"


def test_a_bare_dagster_on_a_copied_home_leaves_the_original_alone(
    furnished_forked: Forked, tmp_path: Path
) -> None:
    copy = shutil.copytree(furnished_forked.data, tmp_path / "copy") / "dagster_home"
    wipe = [sys.executable, "-m", "dagster", "asset", "wipe", "--all", "--noprompt"]
    environment = os.environ | {"DAGSTER_HOME": str(copy)}
    subprocess.run(wipe, env=environment, cwd=tmp_path, check=True, capture_output=True)
    with dg.DagsterInstance.from_config(str(copy)) as instance:
        assert instance.get_asset_keys() == []
    assert {one["status"] for one in furnished_forked.status().values()} == {"fresh"}


def test_another_classifier_takes_the_place_of_the_first_as_the_page_describes(
    furnished_clone: Clone,
) -> None:
    table = re.findall(r"^\| (.*) \| `(.*)` \| `(.*)` \|$", PAGES["docs/another-model.md"], re.M)
    assert len(table) == 6
    name = ""
    for file, before, after in table:
        name = name if file == "the same" else file.strip("`")
        furnished_clone.edit(name, before, after)
    done = furnished_clone.json("refresh")
    assert {"sgd_model", "predictions", "evaluation"} <= set(done["materialized"])
    assert "train_set" not in done["materialized"]
    [newest, *_] = furnished_clone.json("champion")["history"]
    assert newest["outcome"] == "refused"
