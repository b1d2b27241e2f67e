"""Settings and params: one clear message for what is not allowed, no dependence on cwd."""

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline.config import settings as page
from mnist_pipeline.config import settings_file
from mnist_pipeline.config.params import Params
from mnist_pipeline.config.settings import PROJECT, Settings
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources.openml import PUBLIC
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline_tests.conftest import NEUTRAL


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of the test's own."""
    monkeypatch.setattr(page, "PROJECT", tmp_path)
    monkeypatch.setattr(page, "DEFAULTS", tmp_path)
    return tmp_path


def test_without_any_setting_the_digits_come_from_openml_into_the_project(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    for name in NEUTRAL:
        monkeypatch.delenv(name)
    found = Settings.load()
    assert found.source == "openml"
    assert found.openml_server == "https://www.openml.org"
    assert found.data_dir == PROJECT / "data"
    assert found.dagster_home == PROJECT / "data" / "dagster_home"
    assert found.params_file == project / "params.toml"


def test_the_environment_beats_the_settings_file(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "settings.env").write_text(
        "MNIST_SOURCE=sample\nMNIST_DATA_DIR=from_file\nOTHER=ignored\n"
    )
    monkeypatch.setenv("MNIST_SOURCE", "openml")
    assert Settings.load().source == "openml"
    assert Settings.load().data_dir == project / "from_file"
    monkeypatch.delenv("MNIST_SOURCE")
    assert Settings.load().source == "sample"


def test_an_unknown_name_is_refused_with_near_ones_and_all_that_are_known(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.setenv("MNIST_SORCE", "openml")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert "MNIST_SORCE (environment) is not a known setting" in str(caught.value)
    assert "Did you mean MNIST_SOURCE" in str(caught.value)
    assert "MNIST_RETRAIN_CRON" in str(caught.value)
    monkeypatch.delenv("MNIST_SORCE")
    file = project / "settings.env"
    file.write_text("MNIST_DATADIR=data\n")
    with pytest.raises(SettingsError, match=r"MNIST_DATADIR \(.*settings\.env\)"):
        Settings.load()
    with pytest.raises(SettingsError, match="Did you mean MNIST_DATA_DIR"):
        Settings.load()


def test_every_name_that_the_project_uses_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        *PROJECT.glob("deploy/**/*"),
        *PROJECT.glob("benchmarks/*.py"),
        *PROJECT.glob("docs/*.md"),
    ]
    texts = [file.read_text() for file in files if file.is_file() and file.suffix != ".pyc"]
    names = {name for text in texts for name in re.findall(r"\bMNIST_[A-Z_]+\b", text)} - {"MNIST_"}
    assert {"MNIST_WORKER_SLOTS", "MNIST_ARCHIVE"} <= names
    for name in names - NEUTRAL.keys() - {"MNIST_DATA_DIR"}:
        monkeypatch.setenv(name, "" if name == "MNIST_ALERTS" else "0 0 * * *")
    # of a service in Kubernetes
    monkeypatch.setenv("MNIST_PIPELINE_SERVICE_HOST", "10.0.0.1")
    Settings.load()


def test_a_project_that_is_no_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MNIST_PROJECT", "elsewhere")
    monkeypatch.setattr(page, "PROJECT", tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match=r"MNIST_PROJECT: .*elsewhere is not a folder"):
        Settings.load()


def test_a_dotenv_file_that_names_settings_is_refused(project: Path) -> None:
    (project / ".env").write_text("OTHER=1\nDAGSTER_HOME=/somewhere\n")
    Settings.load()
    (project / ".env").write_text("OTHER=1\nexport MNIST_SOURCE=sample\n")
    with pytest.raises(SettingsError, match=r"\.env names MNIST_SOURCE.*settings\.env"):
        Settings.load()


def test_the_settings_file_is_created_from_the_example(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "settings.env.example", project)
    settings_file.create(project)
    for name in NEUTRAL:
        monkeypatch.delenv(name)
    assert Settings.load().source == "sample"


def test_settings_of_a_dotenv_file_move_and_foreign_variables_stay(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dotenv, file = project / ".env", project / "settings.env"
    mirrors = "MNIST_MIRRORS='http://a/b\nhttp://c/d'\n"
    dotenv.write_text(
        "# mine\nTOKEN='a\nMNIST_SOURCE=b'\nexport MNIST_SOURCE=openml # all\n"
        f"DAGSTER_HOME=/a/home\n{mirrors}OTHER=${{TOKEN}}"
    )
    dotenv.chmod(0o600)
    settings_file.create(project)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == (
        f"export MNIST_SOURCE=openml # all\nDAGSTER_HOME=/a/home\n{mirrors}"
    )
    assert dotenv.read_text() == (
        "# mine\nTOKEN='a\nMNIST_SOURCE=b'\nDAGSTER_HOME=/a/home\nOTHER=${TOKEN}"
    )
    assert f"Settings are in {file} now" in capsys.readouterr().out
    for name in NEUTRAL:
        monkeypatch.delenv(name)
    found = Settings.load()
    assert (found.source, found.mirrors) == ("openml", ("http://a/b", "http://c/d"))
    assert found.dagster_home == Path("/a/home")


def test_a_dotenv_file_without_settings_stays_and_a_settings_file_that_exists_too(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = (PROJECT / "settings.env.example").read_text()
    (project / "settings.env.example").write_text(example)
    (project / ".env").write_text("TOKEN=a\nDAGSTER_HOME=/a/home\n")
    settings_file.create(project)
    assert (project / "settings.env").read_text() == f"{example}DAGSTER_HOME=/a/home\n"
    assert (project / ".env").read_text() == "TOKEN=a\nDAGSTER_HOME=/a/home\n"
    (project / ".env").write_text("MNIST_SOURCE=openml\n")
    settings_file.create(project)
    assert (project / "settings.env").read_text().startswith(example)
    assert capsys.readouterr().out == ""


def test_a_dotenv_file_with_settings_alone_is_renamed(project: Path) -> None:
    text = "# which digits\nMNIST_SOURCE=openml\n"
    (project / ".env").write_text(text)
    settings_file.create(project)
    assert not (project / ".env").exists()
    assert (project / "settings.env").read_text() == text


def test_relative_paths_are_relative_to_the_project_wherever_one_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_DATA_DIR", "elsewhere/data")
    assert Settings.load().data_dir == PROJECT / "elsewhere" / "data"
    assert Settings.load().dagster_home == PROJECT / "elsewhere" / "data" / "dagster_home"
    monkeypatch.setenv("DAGSTER_HOME", "/somewhere/home")
    assert Settings.load().dagster_home == Path("/somewhere/home")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MNIST_SOURCE", "kaggle", "'openml' or 'sample'"),
        ("MNIST_OPENML_SERVER", "ftp://openml.org", "URL scheme should be 'http' or 'https'"),
        ("MNIST_OPENML_SERVER", "openml", "valid URL"),
        ("MNIST_DATA_DIR", "gs://bucket/prefix", "a local folder or s3://bucket/prefix"),
        ("MNIST_DATA_DIR", "file:/tmp", "a local folder or s3://bucket/prefix"),
        ("MNIST_DATA_DIR", "file://localhost/tmp", "a local folder or s3://bucket/prefix"),
        ("MNIST_DATA_DIR", "s3://", "the name of a bucket"),
        ("MNIST_DATA_DIR", "s3:///prefix", "the name of a bucket"),
        ("MNIST_DATA_DIR", "s3://server:9000/bucket", "address goes to AWS_ENDPOINT_URL"),
        ("MNIST_DATA_DIR", "s3://bucket/../other", "a plain path"),
        ("MNIST_DATA_DIR", "s3://bucket/a#b", "no #"),
        ("DAGSTER_HOME", "s3://bucket/home", "only a local path"),
        ("MNIST_DATA_DIR", "/tmp/" + "a" * 300, "File name too long"),
        ("DAGSTER_HOME", "/tmp/50%", "cannot have % or ? in its path: name another folder"),
        ("MNIST_DATA_DIR", "~no_user_of_that_name/x", "home directory"),
        ("MNIST_DATA_DIR", "params.toml", "a folder is needed, this is a file"),
        ("MNIST_DATA_DIR", "", "a path is needed"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_its_value_and_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    [line] = str(caught.value).splitlines()
    assert f"{name} = {value!r} is not allowed" in line
    assert allowed in line


def test_a_clone_whose_path_has_a_percent_sign_needs_a_home_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "PROJECT", tmp_path / "50%")
    monkeypatch.setenv("MNIST_DATA_DIR", "data")
    home = str(tmp_path / "50%" / "data" / "dagster_home")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    [line] = str(caught.value).splitlines()
    assert f"DAGSTER_HOME = {home!r} is not allowed" in line
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert Settings.load().data_dir == tmp_path / "50%" / "data"


def test_mirrors_are_urls_with_blanks_or_commas_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text in (
        "http://a/b.pq http://c/d/",
        "http://a/b.pq,http://c/d",
        "http://a/b.pq,\n http://c/d",
    ):
        monkeypatch.setenv("MNIST_MIRRORS", text)
        assert Settings.load().mirrors == ("http://a/b.pq", "http://c/d")
    monkeypatch.setenv("MNIST_MIRRORS", "http://a/b.pq ftp://c/d")
    with pytest.raises(
        SettingsError, match=r"MNIST_MIRRORS.1 = 'ftp://c/d' is not allowed: .*http"
    ):
        Settings.load()
    monkeypatch.setenv("MNIST_MIRRORS", "")
    assert Settings.load().mirrors == ()
    monkeypatch.delenv("MNIST_MIRRORS")
    assert Settings.load().mirrors == PUBLIC


@pytest.mark.parametrize("name", ["MNIST_OPENML_SERVER", "MNIST_MIRRORS"])
@pytest.mark.parametrize(
    "url",
    [
        "http://a-person:hunter2@127.0.0.1/?key=s3cret",
        "http://127.0.0.1/?key=s3cret",
        "a-person:hunter2@127.0.0.1/mnist",
        "http://a-person:hunter2/x@127.0.0.1:bad",
        "http://a-person:hunter2,x@127.0.0.1:bad",
        "http://a-person:hunter2 x@127.0.0.1:bad",
        "http:\\\\a-person:hunter2@127.0.0.1:bad",
    ],
)
def test_a_secret_in_a_url_is_not_said_when_the_url_is_refused(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.load()
    assert not any(secret in str(caught.value) for secret in ("a-person", "hunter2", "s3cret"))


@pytest.mark.parametrize("name", ["mnist_source", "Mnist_Source", "MNIST-SOURCE", "MNISTSOURCE"])
def test_a_setting_in_another_spelling_is_refused_and_not_ignored(
    name: str, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "settings.env").write_text(f"{name}=sample\n")
    with pytest.raises(SettingsError, match="Did you mean MNIST_SOURCE"):
        Settings.load()
    (project / "settings.env").unlink()
    monkeypatch.setenv(name, "sample")
    with pytest.raises(SettingsError, match="Did you mean MNIST_SOURCE"):
        Settings.load()


def test_a_folder_or_a_link_to_nothing_in_the_place_of_the_settings_file_is_refused(
    project: Path,
) -> None:
    (project / "settings.env").symlink_to("nothing")
    with pytest.raises(SettingsError, match=r"settings\.env is a link to nothing"):
        Settings.load()
    (project / "settings.env").unlink()
    (project / "settings.env").mkdir()
    with pytest.raises(SettingsError, match=r"settings\.env is a folder"):
        Settings.load()


def test_variables_without_our_prefix_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings.load()
    for name in ("SOURCE", "DATA_DIR", "data_dir", "OPENML_SERVER", "PARAMS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    assert Settings.load() == before


@pytest.mark.parametrize("line", ['MNIST_SOURCE="sample', "MNIST_SOURCE: sample", "MNIST_SOURCE"])
def test_a_line_of_the_settings_file_that_cannot_be_read_is_refused_by_its_number(
    line: str, project: Path
) -> None:
    (project / "settings.env").write_text(f"# mine\n{line}\nMNIST_PARAMS=params.toml\n")
    with pytest.raises(
        SettingsError, match=r"line 2 of .*settings\.env is not NAME=value"
    ) as caught:
        Settings.load()
    assert "sample" not in str(caught.value), "there may be a password in the line"


def test_a_variable_in_a_path_is_put_in_with_braces_and_refused_without(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.setenv("WHERE", "/some/where")
    (project / "settings.env").write_text("MNIST_DATA_DIR=${WHERE}/data\n")
    assert Settings.load().data_dir == Path("/some/where/data")
    (project / "settings.env").write_text("MNIST_DATA_DIR=$WHERE/data\n")
    with pytest.raises(SettingsError, match=r"MNIST_DATA_DIR = '\$WHERE/data' is not allowed"):
        Settings.load()


def test_a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_not_waited_for(
    project: Path,
) -> None:
    os.mkfifo(project / "params.toml")
    for file in (project / "params.toml", Path("/dev/zero")):
        with pytest.raises(SettingsError, match=f"{file} is not a regular file"):
            Params.load(file)
    for name in ("settings.env", ".env"):
        os.mkfifo(project / name)
        with pytest.raises(SettingsError, match=f"{name} is not a regular file"):
            Settings.load()
        (project / name).unlink()


def test_a_params_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "params.toml").write_text("[model]\nalpha = 0.5\n", "utf-8-sig")
    assert Params.load(tmp_path / "params.toml").model.alpha == 0.5


def test_a_settings_file_that_is_not_text_is_named(project: Path) -> None:
    (project / "settings.env").write_bytes(b"MNIST_SOURCE=\xff\xfe")
    with pytest.raises(SettingsError, match=r"settings\.env is not UTF-8 text"):
        Settings.load()


def test_the_projects_own_params_file_is_the_default_spelled_out() -> None:
    assert Params.load(PROJECT / "params.toml") == Params()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nalhpa = 1e-4", "model.alhpa is not a known key"),
        ("[modle]\nalpha = 1e-4", "modle is not a known key"),
        ("[model]\nalpha = -1.0", r"model.alpha = -1.0 is not allowed: .* greater than 0"),
        ("[model]\nmax_iter = 1.5", r"model.max_iter = 1.5 is not allowed: .* integer"),
        (
            "[model]\npreset = 'best'",
            r"model.preset = 'best' is not allowed: .*'tutorial', 'scaled', 'fast' or 'accurate'",
        ),
        (
            "[split]\ntest_size = 1.0",
            r"split.test_size = 1.0 is not allowed: .* less than or equal to 0.99",
        ),
        ("[split]\nrandom_state = true", r"split.random_state = True is not allowed"),
        ("[model]\nalpha = inf", r"model.alpha = inf is not allowed: .* finite number"),
        ("[model]\nmax_iter = 100000000000", r"model.max_iter = 100000000000 is not allowed"),
        ("[floor]\nsample = nan", r"floor.sample = nan is not allowed"),
        ("[model]\npreset = ['tutorial']", r"model.preset = \['tutorial'\] is not allowed"),
        ("[model]\ncells = [7, 0]", r"model.cells.1 = 0 is not allowed: .* greater than or equal"),
        ("[model]\ncells = []", r"model.cells = \[\] is not allowed: .* at least 1 item"),
        (
            "[model]\nhold_out = false",
            "keys of model do not go together: early_stopping needs the validation part",
        ),
        (
            "[model]\npreset = 'scaled'\nrotation = 5.0",
            "keys of model do not go together: rotation, zoom and shift distort deskewed digits",
        ),
        ("[model]\nlearning_rate = 'adaptive'", "cannot be used in a fit by epoch"),
        ("[validation]\nsize = 0.6", r"validation.size = 0.6 is not allowed"),
        ("[champion]\nlevel = 0.0", r"champion.level = 0.0 is not allowed"),
        ("[model", "is not valid TOML"),
        ("[split]\nrandom_state = " + "1" * 5000, "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_a_params_file_with_nonsense_is_refused_with_file_key_and_value(
    text: str, message: str, params: Callable[[str], str]
) -> None:
    file = params(text)
    with pytest.raises(SettingsError, match=message) as caught:
        Params.load(Path(file))
    assert file in str(caught.value)


def test_a_params_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"MNIST_PARAMS: cannot read .*gone.toml: No such file"):
        Params.load(tmp_path / "gone.toml")


def test_the_tutorial_preset_is_sgdclassifier_with_its_defaults_and_a_seed() -> None:
    from sklearn.linear_model import SGDClassifier

    from mnist_pipeline.digits.model.pipeline import build

    pipeline = build(ModelParams(preset="tutorial", random_state=0), 28)
    [(_, sgd)] = pipeline.steps
    assert sgd.get_params() == SGDClassifier(random_state=0).get_params()


def test_a_key_beside_a_preset_overrides_the_presets_own() -> None:
    assert ModelParams(preset="tutorial").features == "raw"
    assert ModelParams(preset="tutorial", features="scaled").features == "scaled"


def test_a_bucket_is_named_by_its_url_and_the_history_stays_in_the_project(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MNIST_DATA_DIR", "s3://bucket/a/prefix/")
    found = Settings.load()
    assert str(found.data_dir) == "s3://bucket/a/prefix"
    assert found.dagster_home == PROJECT / "data" / "dagster_home"
    assert found == Settings.load()


def test_credentials_in_the_url_of_a_bucket_are_refused_and_not_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url in ("s3://AKID:secret@bucket/prefix", "s3://bucket/prefix?token=secret"):
        monkeypatch.setenv("MNIST_DATA_DIR", url)
        with pytest.raises(SettingsError, match=r"MNIST_DATA_DIR.*no credentials") as caught:
            Settings.load()
        assert "secret" not in str(caught.value)


def test_without_boto3_a_bucket_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MNIST_DATA_DIR", "s3://bucket/prefix")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="`make s3`"):
        Settings.load()
