"""The repository itself: locks that pin everything, and nothing that ties it to a machine."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from mnist_pipeline.config.settings import PROJECT

LOCK = PROJECT / "requirements.lock"


def make(*arguments: str) -> str:
    """Run make in the project; return what it prints."""
    if not shutil.which("make"):
        pytest.skip("make is not installed here")
    # `make test` would have it print folders, too
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--extra-index" not in text
    packages = [entry for entry in re.split(r"\n(?=\S)", text) if entry]
    assert len(packages) > 50
    for package in packages:
        assert re.match(r"[\w.\[\],-]+==\S+", package), package[:60]
        assert "--hash=sha256:" in package, package[:60]


def wheel(folder: Path, name: str, needs: str = "") -> str:
    """Write an empty wheel; return its line of a lock."""
    file, info = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}==1 --hash=sha256:{sha256(file.read_bytes()).hexdigest()}\n"


def test_an_install_refuses_what_the_lock_lacks_or_has_with_another_hash(tmp_path: Path) -> None:
    locked = wheel(tmp_path, "direct", "Requires-Dist: indirect\n")
    further = wheel(tmp_path, "indirect")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["direct"]\n'
        "[dependency-groups]\nbuild = []\n"
    )
    plan = make("--dry-run", "--what-if", "requirements.lock", ".venv/run.stamp")
    [command] = re.findall(r".*uv pip install .*--require-hashes.*", plan)
    command = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    command += " --no-index --offline --find-links . --target installed"
    for lock, refused in (
        (locked, "no trusted hash was provided"),
        (locked + further.replace(further[-9:-1], "00000000"), "Hash mismatch"),
        (locked + further, None),
    ):
        (tmp_path / "requirements.lock").write_text(lock)
        done = subprocess.run(
            command.split(), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (refused is None), done.stderr
        assert (refused or "") in done.stderr


def test_what_installs_is_pinned_too_and_actions_by_commit() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.M))
    assert {"pip", "setuptools", "uv", "hatchling", "editables"} <= locked
    files = (PROJECT / ".github" / "workflows").glob("*.yml")
    used = [name for file in files for name in re.findall(r"uses: (\S+)", file.read_text())]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_make_lock_needs_nothing_that_the_lock_does_not_have_yet() -> None:
    plan = make("--dry-run", "--what-if", "pyproject.toml", "lock")
    assert "pip compile" in plan
    assert "pip install" not in plan


def test_the_audit_covers_the_lock() -> None:
    assert "--requirement requirements.lock" in make("--dry-run", "audit")


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.M))
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
