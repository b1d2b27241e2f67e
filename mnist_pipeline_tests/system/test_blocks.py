"""Every block of code of README and docs is executed: here, unless a list names another test.

`ELSEWHERE` names the test that executes a block, `NOT_RUN` why a command is not executed at all.
That those are commands, options and targets that exist, `test_docs` checks of all.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.digits.sources import openml, sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline_tests.support import photos
from mnist_pipeline_tests.support.clones import Clone
from mnist_pipeline_tests.support.pages import Block, blocks

TESTS = PROJECT / "mnist_pipeline_tests"

ELSEWHERE = {
    ("docs/adapting.md", ".*"): "system/test_adapting.py::follow",
    ("docs/engine.md", ".*"): "system/test_engine_page.py::test_each_command_on_the_page",
    ("docs/extending.md", "python"): "assets/test_own.py::test_own_assets_and_checks",
    ("docs/experiments.md", "console"): "assets/test_experiments.py::test_a_promoted_variant",
    ("docs/tutorial.md", "console"): "system/test_docs.py::test_the_tutorial_prints",
    (".*", "toml"): "system/test_docs.py::test_every_block_of_toml",
    ("SECURITY.md", "nginx"): "system/test_exposure.py::test_the_proxy_of_the_security_page",
    ("SECURITY.md", "console"): "system/test_dagster_dev.py::test_a_read_only_webserver",
    ("docs/settings.md", "text"): "system/test_blocks.py::test_the_mirrors",
}
"""By page and language of a block, the test that executes it."""

NOT_RUN = {
    r"make test": "it is these tests",
    r"make install": "it downloads; these tests run in what it installs",
    r"make (s3|workers)": "they download; these tests run in an environment with both",
    r"make ui|\S+/mnist-pipeline (ui|draw)": "they run until they are ended: system/test_ui.py, "
    "system/test_dagster_dev.py and web/test_drawing.py start them",
    r"curl .*": "it needs `draw` on its usual port: web/test_drawing.py sends the same request",
    r"git pull": "it needs the network",
    r"uv run .*|DAGSTER_HOME=\S+ uvx .*": "they download",
    r"(python3 -m venv|~/environment|\.venv/bin/uv|cd digits).*": "they install a wheel: "
    "system/test_wheel.py builds it, installs it and runs these commands",
    r"export AWS_\S+.*|MNIST_DATA_DIR=s3:.*": "they need a bucket: system/test_remote_store.py "
    "runs all commands on one",
    r".*\$DAGSTER_HOME.*|dagster.* deploy/.*|dagster code-server.*|PYTHONPATH=deploy.*": "they "
    "need Redis and PostgreSQL: system/test_workers.py starts the same parts",
    r"MNIST_SOURCE=infinite:700000 .*": "it takes minutes: digits/test_streaming.py has fewer",
    r".*mnist-pipeline run --force": "it computes everything: cli/test_cli.py forces one step",
    r".*--accept VERSION": "VERSION is a placeholder: assets/test_champion.py accepts one",
    r".*champion --(rollback|allow)": "they need an earlier champion: assets/test_champion.py "
    "has one",
}
"""By the pattern of a whole command, why it is not executed here."""


def reason(command: str) -> str | None:
    """Why a command is not executed here, or None."""
    return next((why for one, why in NOT_RUN.items() if re.fullmatch(one, command)), None)


def elsewhere(block: Block) -> str | None:
    """The test that executes a block, or None."""
    for (page, language), test in ELSEWHERE.items():
        if re.fullmatch(page, block.page) and re.fullmatch(language, block.language):
            return test
    return None


HERE = [one for one in blocks() if not one.is_generated and elsewhere(one) is None]


def test_every_block_is_of_a_kind_that_is_executed_and_no_list_names_what_is_not_there() -> None:
    assert {one.language for one in HERE} <= {"console", "python"}
    every = [one for one in blocks() if not one.is_generated]
    assert len(every) > 50
    for test in ELSEWHERE.values():
        file, _, name = test.partition("::")
        assert f"def {name}" in (TESTS / file).read_text(), test
    for why in NOT_RUN.values():
        for file in re.findall(r"\w+/test_\w+\.py", why):
            assert (TESTS / file).is_file(), why
    for page, language in ELSEWHERE:
        found = [
            one
            for one in every
            if re.fullmatch(page, one.page) and re.fullmatch(language, one.language)
        ]
        assert found, (page, language)
    commands = [command for one in HERE for command in one.commands]
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, command) for command in commands), pattern


def test_the_mirrors_on_the_page_of_settings_are_those_that_are_asked() -> None:
    [shown] = [one.text for one in blocks("text") if one.page == "docs/settings.md"]
    assert tuple(shown.split()) == openml.PUBLIC


@pytest.mark.parametrize("page", sorted({one.page for one in HERE if one.language == "python"}))
def test_the_python_of_a_page_runs(page: str) -> None:
    for block in HERE:
        if (block.page, block.language) == (page, "python"):
            exec(compile(block.text, page, "exec"), {})


def furnish(folder: Path) -> None:
    """Put the files into a project that readers of the pages have."""
    table = decode(sample.read())
    for name, digit in {"photo.jpg": 3, "scan.png": 7}.items():
        place = int(np.flatnonzero(table.labels == digit)[0])
        photos.on_paper(table.pixels[place]).save(folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for name in (".gitignore", "settings.env.example"):
        shutil.copy(PROJECT / name, folder)


def made_by(target: str) -> list[str]:
    """The arguments of `mnist-pipeline` that a target of the Makefile runs."""
    plan = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    last = shlex.split(plan.splitlines()[-1])
    assert last[0].endswith("/mnist-pipeline"), plan
    return last[1:]


@pytest.fixture
def execute(furnished_clone: Clone, tmp_path: Path) -> Callable[[str], str]:
    """Run a command in a copy of the project; it must succeed. Return what it prints."""
    folder = furnished_clone.folder
    furnish(folder)

    def run(command: str) -> str:
        words = shlex.split(command, comments=True)
        variables: dict[str, str] = {"BROWSER": "true"}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, variables[name] = words.pop(0).partition("=")
        if words[0] == "make":
            words = ["mnist-pipeline", *made_by(words[1])]
        if words[0].endswith("mnist-pipeline"):
            # commands are forked in a folder of their own
            named = [str(folder / one) if (folder / one).is_file() else one for one in words[1:]]
            done = furnished_clone.cli(*named, **variables)
        else:
            line = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
            line = line.replace("/srv/", f"{tmp_path}/")
            environment = furnished_clone.environment(PATH=os.environ["PATH"])
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=folder, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def pages_with_commands() -> list[str]:
    return sorted({one.page for one in HERE for two in one.commands if reason(two) is None})


@pytest.mark.parametrize("page", pages_with_commands())
def test_the_commands_of_a_page_run_in_order(page: str, execute: Callable[[str], str]) -> None:
    for block in HERE:
        for command in block.commands if block.page == page else ():
            if reason(command) is None:
                execute(command)
