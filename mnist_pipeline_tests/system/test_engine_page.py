"""The page `docs/engine.md`: its files and commands do what it describes, word for word."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.processes import run_script

PAGE = (PROJECT / "docs" / "engine.md").read_text()


def files() -> dict[str, str]:
    """The files on the page: a block of code after a sentence that names the file."""
    found = re.findall(r"`(\w+\.\w+)`[^`]*:\n\n```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL)
    return dict(found)


def commands() -> list[tuple[str, str]]:
    """The commands on the page in order, each with its output on the page."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    return tmp_path


def forked(project: Path, command: str) -> str | None:
    """The same for `python FILE ARGUMENTS`, in a tenth of the time; None for other commands."""
    python, *arguments = command.split()
    if python != "python" or not arguments[0].endswith(".py"):
        return None
    return run_script(project / arguments[0], *arguments[1:]).out


def shell(project: Path, command: str, path: Path = PROJECT) -> str:
    """Run a command as the page's reader does; return what it prints on stdout."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(path),
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


TICK = """
import dagster as dg
from wine import defs, pipeline

with pipeline.session() as session:
    [schedule] = defs().schedules
    tick = schedule.evaluate_tick(dg.build_schedule_context(session.instance))
    [request] = tick.run_requests
    print(schedule.name, schedule.job_name)
    job = defs().resolve_job_def(schedule.job_name)
    run = job.execute_in_process(instance=session.instance, tags=dict(request.tags))
    made = run.get_asset_materialization_events()
    print(run.success, *("reused" if "reused_from" in event.materialization.metadata else "computed"
        for event in made))
"""


def test_each_command_on_the_page_prints_what_the_page_shows_and_a_schedule_tick_reuses_all(
    project: Path,
) -> None:
    assert set(files()) == {"wine.py", "params.toml", "work.py"}
    exports = ""
    [(first, shown), *others] = commands()
    assert shell(project, first) == shown
    for command, printed in others:
        if command.startswith("export "):
            exports += f"{command}; "
            continue
        out = forked(project, command)
        if out is None:
            out = shell(project, exports + command)
        assert not printed or out == printed, command
    (project / "tick.py").write_text(TICK)
    assert run_script(project / "tick.py").out.splitlines() == [
        "scheduled_refresh refresh",
        "True reused reused reused reused",
    ]
    suffixes = {file.suffix for file in (project / "data").glob("*/*/*")}
    assert suffixes == {".parquet", ".json", ".txt"}


def test_the_folder_of_the_engine_copied_into_another_project_works_without_this_one(
    project: Path,
) -> None:
    (source := project / "mnist-pipeline" / "mnist_pipeline").mkdir(parents=True)
    shutil.copytree(PROJECT / "mnist_pipeline" / "incremental", source / "incremental")
    [copy] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    shell(project, copy)
    shutil.rmtree(source.parent)
    # a module that is None cannot be imported
    run = (
        "import sys; sys.modules['mnist_pipeline'] = None; import runpy; runpy.run_path('work.py')"
    )
    printed = shell(project, f'python -c "{run}" refresh status refresh', project)
    assert printed.splitlines() == [
        "computed ['wine', 'clean', 'model', 'summary'], reused []",
        *(f"{asset} fresh" for asset in ("wine", "clean", "model", "summary")),
        "computed [], reused []",
    ]


def test_the_page_lists_the_public_names() -> None:
    from mnist_pipeline import incremental

    table = PAGE.partition("## The public names")[2]
    listed = {
        re.sub(r"\(.*", "", name)
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }
    assert listed == set(incremental.__all__)
