"""What counts for the code versions and the data versions of the pipeline's assets."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline.definitions import NOT_COUNTED
from mnist_pipeline.incremental.code_version import Sources
from mnist_pipeline.incremental.errors import SettingsError
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.support.clones import Clone, Forked
from mnist_pipeline_tests.support.openml_server import OpenML, serve

SPLITS = {"train_set", "test_set"}
FROM_MODEL = {"sgd_model", "predictions", "evaluation", "champion_model", "report"}
FROM_SOURCE = {"raw_mnist", "report"} | SPLITS
ALL = {"raw_mnist"} | SPLITS | FROM_MODEL


def code_versions(house: House, **variables: str) -> dict[str, str]:
    found = house.pipeline(variables).code_versions
    return {key.to_user_string(): version.digest for key, version in found.items()}


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert set(before) == set(after) == ALL
    return {asset for asset in before if before[asset] != after[asset]}


@pytest.mark.parametrize(
    ("text", "stale"),
    [
        ("", set()),
        ("# a comment\n[model]\nalpha = 1e-5\n", set()),
        ("[floor]\nsample = 0.81\n", {"champion_model"}),
        ("[champion]\nlevel = 0.01\n", {"champion_model"}),
        ("[evaluation]\nleast_accuracy = 0.4\n", {"evaluation"}),
        ("[validation]\nsize = 0.2\n", {"sgd_model"}),
        ("[model]\nalpha = 0.001\n", {"sgd_model"}),
        ("[split]\nrandom_state = 7\n", SPLITS),
    ],
)
def test_a_param_counts_for_the_steps_that_read_it(
    text: str, stale: set[str], house: House, params: Callable[[str], str]
) -> None:
    after = code_versions(house, MNIST_PARAMS=params(text))
    assert differing(code_versions(house), after) == stale


def test_the_source_counts_for_the_download_alone_and_where_things_are_for_nothing(
    house: House, tmp_path: Path
) -> None:
    before = code_versions(house)
    assert differing(before, code_versions(house, MNIST_SOURCE="openml")) == {"raw_mnist"}
    elsewhere = {
        "MNIST_DATA_DIR": str(tmp_path / "elsewhere"),
        "MNIST_OPENML_SERVER": "http://127.0.0.1:10",
        "MNIST_MIRRORS": "http://127.0.0.1:11/a",
        "MNIST_RETRAIN_CRON": "15 4 * * *",
    }
    assert differing(before, code_versions(house, **elsewhere)) == set()


@pytest.fixture
def sources(house: House, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """What each step's source in a copy of the package adds up to."""
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT / "mnist_pipeline", copy / "mnist_pipeline")

    def read() -> dict[str, str]:
        read_now = Sources(NOT_COUNTED)
        return {
            asset.name: json.dumps(
                read_now.reached(asset.step.__module__, copy / asset.file.relative_to(PROJECT))
            )
            for asset in house.pipeline().assets
        }

    return read


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("digits/model/training.py", "from joblib", "# a comment\n    from joblib", set()),
        ("assets/display.py", '"/digits/report"', '"/pages/report"', set()),
        ("assets/display.py", '"confusion matrix"', '"matrix"', set()),
        ("assets/lineage.py", "_HISTORY = 100", "_HISTORY = 101", set()),
        ("incremental/engine.py", '"computed_with"', '"with"', set()),
        ("web/app.py", "10_000_000", "20_000_000", set()),
        ("digits/params.py", "tol: float = Field(0.001", "tol: float = Field(0.002", set()),
        ("digits/report/figures.py", '"cividis"', '"viridis"', {"report"}),
        ("digits/report/page.js", "new Image(56, 56)", "new Image(57, 57)", {"report"}),
        ("digits/report/page.css", "16px", "17px", {"report"}),
        ("digits/sources/transfer.py", "READ_SECONDS = 30.0", "READ_SECONDS = 31.0", {"raw_mnist"}),
        (
            "digits/sources/sample.py",
            "floor = 0.80",
            "floor = 0.81",
            FROM_SOURCE | {"champion_model"},
        ),
        ("digits/sources/csv_rows.py", "_BLOCK = 1 << 22", "_BLOCK = 1 << 23", SPLITS),
        ("digits/data/checks.py", "UNBALANCED = 0.5", "UNBALANCED = 0.4", SPLITS),
    ],
)
def test_an_edit_counts_for_the_steps_that_reach_it(
    file: str,
    old: str,
    new: str,
    stale: set[str],
    sources: Callable[[], dict[str, str]],
    tmp_path: Path,
) -> None:
    before = sources()
    edited = tmp_path / "copy" / "mnist_pipeline" / file
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new))
    assert differing(before, sources()) == stale


def test_the_same_digits_under_another_gzip_framing_compute_nothing_downstream(
    forked: Forked, small_arff: bytes
) -> None:
    forked.edit("params.toml", "openml = 0.85", "openml = 0.5")
    openml = OpenML.of(small_arff)
    with serve(openml):
        variables = {"MNIST_SOURCE": "openml", "MNIST_OPENML_SERVER": openml.url}
        assert set(forked.json("refresh", **variables)["materialized"]) == ALL
        [archive] = forked.data.glob("raw_mnist/*/mnist_784.arff.gz")
        archive.unlink()
        openml.packed = gzip.compress(small_arff, 9, mtime=1)
        found = forked.json("refresh", **variables)
        assert set(found["materialized"]) <= {"raw_mnist", "champion_model"}
        assert set(found["fresh"]) == ALL
        assert openml.downloads == 2
        [again] = forked.data.glob("raw_mnist/*/mnist_784.arff.gz")
        assert again.read_bytes() == openml.packed
        asked = len(openml.requests)
        assert forked.json("refresh", **variables)["materialized"] == []
        assert len(openml.requests) == asked, "an up-to-date archive asks the network for nothing"


@pytest.mark.parametrize("cron", ["every monday", "0 3 * *", "61 * * * *", ""])
def test_a_cron_expression_that_is_not_valid_is_refused_by_the_name_of_its_setting(
    cron: str, house: House
) -> None:
    with pytest.raises(SettingsError) as raised:
        house.pipeline({"MNIST_RETRAIN_CRON": cron})
    assert "MNIST_RETRAIN_CRON" in str(raised.value)
    assert repr(cron) in str(raised.value)


def test_a_full_run_has_the_same_data_versions_in_any_folder_hash_seed_and_number_of_threads(
    furnished: House, clone: Clone
) -> None:
    one = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
    # a new interpreter: these are read when it starts
    process = clone.popen("refresh", "--json", **one)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert set(json.loads(out)["materialized"]) == ALL
    found = {asset: status["data_version"] for asset, status in clone.status().items()}
    assert found == furnished.versions()
