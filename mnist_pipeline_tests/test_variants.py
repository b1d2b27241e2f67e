"""Variants in the params file: what they expand to, what is refused, how one is chosen."""

import tomllib
from pathlib import Path

import pytest

from mnist_pipeline import variants
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline.params import ModelParams, Params


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
        ("[variants.a]\nalpha = -1.0\n", "variant a: model.alpha = -1.0 is not allowed"),
        ("[variants.a]\nalfa = 1.0\n", "variant a: model.alfa is not a known key"),
        ("[variants.a]\nhold_out = false\n", "variant a: the keys of model do not go together"),
        ("[sweep]\nalpha = [1.0, -1.0]\n", "variant alpha=-1.0: model.alpha = -1.0 is not"),
        ("[variants.'a b']\n", "is no name for a variant"),
        ("[variants.'a;b']\n", "is no name for a variant"),
        ("[variants.-a]\n", "is no name for a variant"),
        ("[variants]\nalpha = 1\n", "a table [variants.alpha] is needed"),
        ("[sweep]\nalfa = [1.0]\n", "sweep.alfa is not a known key"),
        ("[sweep]\nalpha = 1.0\n", "a list of values is needed"),
        ("[sweep]\nalpha = [1.0, 1.0]\n", "there are two variants alpha=1.0"),
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
        ("", '\n\n[model]\nvariant = "b"\n'),
        ("[split]\n", '[split]\n\n[model]\nvariant = "b"\n'),
        ("# c\n[model] # m\nalpha = 1.0\n", '# c\n[model] # m\nvariant = "b"\nalpha = 1.0\n'),
        ("[model]\r\nalpha = 1.0\r\n", '[model]\r\nvariant = "b"\r\nalpha = 1.0\r\n'),
        ("[model]", '[model]\nvariant = "b"\n'),
        ("[model]\nvariant='a' # x\n[split]\n", '[model]\nvariant="b" # x\n[split]\n'),
        ("[variants.a]\n[model]\n[split]\n", '[variants.a]\n[model]\nvariant = "b"\n[split]\n'),
        # what no edit of one line can do
        ("model = {alpha = 1.0}\n", None),
        ("model.alpha = 1.0\n", None),
        ("[model]\nvariant = '''a'''\n", None),
    ],
)
def test_choosing_a_variant_changes_one_line_or_nothing(text: str, edited: str | None) -> None:
    assert variants.choosing(text, "b") == edited
    if edited is not None:
        before = tomllib.loads(text)
        model = {**before.get("model", {}), "variant": "b"}
        assert tomllib.loads(edited) == {**before, "model": model}
