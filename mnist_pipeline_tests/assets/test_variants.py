"""Variants in the params file: what they expand to, what is refused, how one is promoted."""

import json
import tomllib
from pathlib import Path

import pytest

from mnist_pipeline.cli import experiments
from mnist_pipeline.config.params import Params
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline_tests.support.clones import Forked


def load(tmp_path: Path, text: str) -> Params:
    file = tmp_path / "variants.toml"
    file.write_text(text)
    return Params.load(file)


def test_a_variant_beats_the_model_and_a_preset_starts_anew(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "[model]\nalpha = 1e-3\nrandom_state = 7\n"
        "[variants.small]\ncells = [4]\n[variants.scaled]\npreset = 'scaled'\n",
    ).variants
    assert found["small"] == ModelParams(alpha=1e-3, random_state=7, cells=(4,))
    assert found["scaled"] == ModelParams(preset="scaled")


def test_a_sweep_leads_to_each_combination_named_after_it_in_any_order(tmp_path: Path) -> None:
    one = load(tmp_path, "[sweep]\nwhitening = [0.01, 0.1]\nalpha = [1e-5]\ncells = [[7, 4]]\n")
    other = load(tmp_path, "[sweep]\ncells = [[7, 4]]\nalpha = [1e-5]\nwhitening = [0.1, 0.01]\n")
    names = {"alpha=1e-05:cells=7x4:whitening=0.01", "alpha=1e-05:cells=7x4:whitening=0.1"}
    assert set(one.variants) == set(other.variants) == names
    assert one.variants["alpha=1e-05:cells=7x4:whitening=0.1"] == ModelParams(whitening=0.1)


def test_the_model_has_the_params_of_the_variant_that_it_names(tmp_path: Path) -> None:
    text = "[model]\nvariant = 'b'\nrandom_state = 7\n[variants.b]\nalpha = 1e-3\n"
    assert load(tmp_path, text).model == ModelParams(random_state=7, alpha=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[variants.a]\nalpha = -1.0\n", "variants.a.alpha = -1.0 is not allowed"),
        ("[variants.a]\nalfa = 1.0\n", "variants.a.alfa is not a known key"),
        ("[variants.a]\nhold_out = false\n", "the keys of variants.a do not go together"),
        ("[sweep]\nalpha = [1.0, -1.0]\n", "variants.alpha=-1.0.alpha = -1.0 is not"),
        ("[variants.'a b']\n", "is not a name for a variant"),
        ("[variants.'a;b']\n", "is not a name for a variant"),
        ("[variants.-a]\n", "is not a name for a variant"),
        ("[variants]\nalpha = 1\n", "a table [variants.alpha] is needed"),
        ("[sweep]\nalfa = [1.0]\n", "sweep.alfa is not a known key of [model]"),
        ("[sweep]\nalpha = 1.0\n", "a list of values is needed"),
        ("[sweep]\nalpha = [1.0, 1.0]\n", "there are two variants alpha=1.0"),
        ("[variants.a-b]\n[variants.a_b]\n", "a-b and a_b differ in punctuation only"),
        (f"[sweep]\nrandom_state = {list(range(1001))}\n", "1,001 variants: 1,000 are the most"),
        ("[model]\nvariant = 'a'\n[variants.b]\n", "model.variant = 'a': there is no such variant"),
    ],
)
def test_a_variant_that_is_not_allowed_is_refused_by_name(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, text)
    assert said in str(refused.value)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("", '[model]\nvariant = "b"\n'),
        ("[split]\n", '[split]\n\n[model]\nvariant = "b"\n'),
        ("# c\n[model] # m\nalpha = 1.0\n", '# c\n[model] # m\nalpha = 1.0\nvariant = "b"\n'),
        (
            "[split]\r\na = 1\r\n[model]\r\nalpha = 1.0\r\n",
            '[split]\r\na = 1\r\n[model]\r\nalpha = 1.0\r\nvariant = "b"\r\n',
        ),
        (
            "[model]\na = 1 # a\n\n# about the split\n[split]\n",
            '[model]\na = 1 # a\nvariant = "b"\n\n# about the split\n[split]\n',
        ),
        ("[model]", '[model]\nvariant = "b"\n'),
        ("[model]\nvariant='a' # x\n[split]\n", '[model]\nvariant="b" # x\n[split]\n'),
        ("[variants.a]\n[model]\n[split]\n", '[variants.a]\n[model]\nvariant = "b"\n[split]\n'),
        ("model = {alpha = 1.0}\n", 'model = {alpha = 1.0,variant = "b"}\n'),
        ("model.alpha = 1.0\n", 'model.alpha = 1.0\nmodel.variant = "b"\n'),
        ("[model]\nvariant = '''a'''\n", '[model]\nvariant = "b"\n'),
        ("[model]\nvariant = 'b'\n", "[model]\nvariant = 'b'\n"),
        # what cannot be edited, or not parsed again
        ("\ufeff[model]\n", None),
        ("[model]\ralpha = 1.0\r", None),
    ],
)
def test_choosing_a_variant_changes_nothing_else(text: str, edited: str | None) -> None:
    assert experiments.with_variant(text, "b") == edited
    if edited is not None:
        before = tomllib.loads(text)
        model = {**before.get("model", {}), "variant": "b"}
        assert tomllib.loads(edited) == {**before, "model": model}


def test_an_edit_that_would_say_something_else_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tomlkit.dumps", lambda document: '[model]\nvariant = "b"\n')
    assert experiments.with_variant("[model]\nalpha = 1.0\n", "b") is None


TEXT = """\
[model]  # of this clone
random_state = 7

# two to compare
[variants.small]
cells = [4]
[variants.smooth]
whitening = 0.1
"""
CHOSEN = TEXT.replace("= 7\n", '= 7\nvariant = "small"\n')


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    found = Forked.make(tmp_path / "clone")
    (found.folder / "params.toml").write_text(TEXT)
    return found


def test_promote_writes_the_params_file_and_nothing_else(forked: Forked) -> None:
    file = forked.folder / "params.toml"
    file.chmod(0o640)
    wanted = {"status": "success", "variant": "small", "file": str(file)}
    assert forked.json("promote", "small") == {**wanted, "changed": True}
    assert file.read_text() == CHOSEN
    assert file.stat().st_mode & 0o777 == 0o640
    assert not [one for one in forked.folder.iterdir() if one.suffix == ".tmp"]
    assert not any(forked.data.iterdir()), "nothing was computed"

    inode = file.stat().st_ino
    assert forked.json("promote", "small") == {**wanted, "changed": False}
    assert file.stat().st_ino == inode
    printed = forked.cli("promote", "smooth")
    assert printed.returncode == 0
    assert f'{file} now has variant = "smooth"' in printed.stdout
    assert "`mnist-pipeline refresh`" in printed.stdout
    assert file.read_text() == CHOSEN.replace('"small"', '"smooth"')


def test_of_a_link_to_the_params_file_the_target_is_edited(forked: Forked) -> None:
    link, target = forked.folder / "params.toml", forked.folder / "elsewhere" / "real.toml"
    target.parent.mkdir()
    link.rename(target)
    link.symlink_to(target)
    assert forked.json("promote", "small")["file"] == str(target)
    assert link.is_symlink()
    assert target.read_text() == CHOSEN


def test_promote_refuses_what_it_cannot_do_and_leaves_the_file_as_it_is(forked: Forked) -> None:
    file = forked.folder / "params.toml"
    unknown = forked.cli("promote", "smoll", "--json")
    assert unknown.returncode == 2
    document = json.loads(unknown.stdout)
    assert f"{file} has no variant 'smoll'. There are small, smooth." in document.pop("error")
    assert document == {"status": "failure", "variant": None, "file": None, "changed": False}
    file.chmod(0o440)
    refused = forked.cli("promote", "small")
    assert refused.returncode == 2
    assert f"{file} is read-only" in refused.stderr
    assert 'write variant = "small" under [model] yourself' in refused.stderr
    assert file.read_text() == TEXT
    assert not [one for one in forked.folder.iterdir() if one.suffix == ".tmp"]
