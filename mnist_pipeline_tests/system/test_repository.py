"""The repository itself: locks that pin everything, and nothing that ties it to a machine."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from mnist_pipeline.config.settings import PROJECT

LOCKS = ["requirements.lock", "requirements-workers.lock", "requirements-dev.lock"]


def make(*arguments: str) -> str:
    """Run make in the project; return what it prints."""
    if not shutil.which("make"):
        pytest.skip("make is not installed here")
    # `make test` would have it print folders, too
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--extra-index" not in text
    entries = re.split(r"\n(?=\S)", text)
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert len(packages) > 50
    for package in packages:
        assert re.match(r"[\w.\[\],-]+==\S+", package), package[:60]
        assert "--hash=sha256:" in package, package[:60]


def test_each_lock_pins_all_of_the_one_before_at_the_same_versions() -> None:
    pins = [set(re.findall(r"^\S+==\S+", (PROJECT / lock).read_text(), re.M)) for lock in LOCKS]
    assert pins[0] < pins[1] < pins[2]


def test_what_installs_is_pinned_too_and_actions_by_commit() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (PROJECT / LOCKS[0]).read_text(), re.M))
    assert {"pip", "setuptools", "hatchling"} <= locked
    files = (PROJECT / ".github" / "workflows").glob("*.yml")
    used = [name for file in files for name in re.findall(r"uses: (\S+)", file.read_text())]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_the_audit_covers_every_lock() -> None:
    plan = make("--dry-run", "audit")
    assert "for lock in requirements*.lock" in plan
    assert "--requirement $lock" in plan


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([\w.-]+)==", (PROJECT / LOCKS[0]).read_text(), re.M))
    wanted = {re.split(r"[\s<>=!;\[]", line)[0] for line in project["dependencies"]}
    assert wanted <= locked


def test_make_without_a_target_lists_every_target_for_people() -> None:
    listed = make()
    for target in ("install", "run", "ui", "test", "lint", "bench", "clean"):
        assert f"make {target} " in listed


def test_make_ui_takes_a_port_from_its_command_line_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "9")
    for port, expected in (["PORT=3001"], "ui --port 3001"), ([], "ui"):
        plan = make("--dry-run", "ui", *port)
        assert plan.strip().endswith(f"/mnist-pipeline {expected}")


def test_dg_loads_what_the_workspace_names() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    [location] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    assert location["python_module"] == {
        "module_name": project["code_location_target_module"],
        "location_name": project["code_location_name"],
    }


def test_make_clean_spares_data_and_settings() -> None:
    plan = make("--dry-run", "clean")
    removed = re.findall(r"rm -rf (.*)", plan)[0].split()
    assert ".venv" in removed
    assert not {"data", "settings.env"} & set(removed)
