"""A real browser for the tests, and what looks at pages in it: fixtures, imported by conftest."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from mnist_pipeline.config.settings import PROJECT

CHECKS = PROJECT / "mnist_pipeline_tests" / "web" / "page_checks"

SCHEMES = ["light", "dark"]
WIDTHS = {"phone": 360, "desktop": 1280}


def browser(file: Path) -> dict[str, str]:
    """Return the variable for a browser that writes what it opens into a file."""
    program = file.with_suffix(".sh")
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{file}"\n')
    program.chmod(0o755)
    return {"BROWSER": f"{program} %s"}


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """Debian's Chromium, headless.

    While it is open an event loop runs in this thread, and Dagster can run nothing in this process.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    arguments = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", *arguments)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(arguments))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of one file."""
    with launched() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, url: str, **more: Any) -> Iterator[Page]:
    """Open a page that must say nothing on the console and ask nothing of anybody else."""
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(**more)
    # the browser reports a picture that is refused as a failed request
    refused = "status of 422"
    page.on("console", lambda one: None if refused in one.text else said.append(one.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    assert not said
    own = url.rpartition("/")[0]
    assert not [one for one in asked if not one.startswith((own, "data:", "blob:"))]
    page.close()


@pytest.fixture(scope="session")
def page_checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages that look at pages, installed from their lock."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine to install axe-core with")
    folder = tmp_path_factory.mktemp("page_checks")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CHECKS / name, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=120)
    return folder / "node_modules"


@pytest.fixture(scope="session")
def violations(page_checks: Path) -> Callable[[Page], list[str]]:
    """What axe finds on a page that is serious or critical."""
    source = (page_checks / "axe-core" / "axe.min.js").read_text()

    def found(page: Page) -> list[str]:
        # not as a script of the page: its Content-Security-Policy allows none from outside
        page.evaluate(source)
        result = page.evaluate("axe.run()")
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:100] for node in one['nodes'][:3]]}"
            for one in result["violations"]
            if one["impact"] in {"serious", "critical"}
        ]

    return found


@pytest.fixture(scope="session")
def html_errors(page_checks: Path) -> Callable[[Path], list[str]]:
    """What html-validate finds wrong with a file."""
    rules = page_checks.parent / "rules.json"
    rules.write_text('{"root": true, "extends": ["html-validate:standard"]}')

    def found(file: Path) -> list[str]:
        program = page_checks / "html-validate" / "bin" / "html-validate.mjs"
        command = ["node", str(program), "--config", str(rules), "--formatter", "json", str(file)]
        printed = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, cwd=page_checks
        ).stdout
        return [
            f"line {message['line']}: {message['message']}"
            for result in json.loads(printed)
            for message in result["messages"]
        ]

    return found
