"""Hostile input: of anything at all comes a right result or a documented error.

Some hundred inputs each in an ordinary run; `make hostile-test` tries a hundred thousand.
"""

import io
import json
import pickle
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mnist_pipeline.config.params import Params
from mnist_pipeline.digits.errors import IncompatibleModelError, PictureError, SourceError
from mnist_pipeline.digits.images import files
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.sources import openml
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.digits.sources.source import Access, Answer
from mnist_pipeline.incremental.errors import FormatError, SettingsError
from mnist_pipeline_tests.conftest import HEADER
from mnist_pipeline_tests.digits.test_raw_mnist import IMAGES, LABELS, of_idx
from mnist_pipeline_tests.support import hostile
from mnist_pipeline_tests.support.hostile import (
    FORMS,
    packed,
    picture,
    plainly,
    read_arff,
    read_picture,
    resealed,
)

CORPUS = Path(__file__).parents[1] / "support" / "corpus"
MANY = settings.get_current_profile_name() == "many"


def inputs(few: int, many: int) -> Callable[[Any], Any]:
    """Try so many inputs, the same in each run."""
    return settings(
        max_examples=many if MANY else few,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def peak_kb() -> int:
    """The most memory that this process had since that was last forgotten."""
    [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in one]
    return int(line.split()[1])


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """No input takes more memory than 400 MB, whatever it claims."""
    if not (forget := Path("/proc/self/clear_refs")).exists():
        yield
        return
    forget.write_text("5")
    before = peak_kb()
    yield
    assert peak_kb() - before < 400_000


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [b"\n", b"\r", b"\0", b"%", b"'", b'"', b",", b"?", b"{", b" ", b"\t", b"\\"],
            ),
            st.sampled_from([b"@DATA\n", b"256", b"-1", b"1e2", b"\xff\xfe", b"0" * 400]),
        ),
    ),
    min_size=1,
    max_size=4,
)
"""Where something is taken out of a file (as a share of it), how much, and what is put in."""


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, count, new in edits:
        start = int(place * len(data))
        data = data[:start] + new + data[start + count :]
    return data


ROWS = [
    b",".join([b"%d" % (value * row % 256) for value in range(784)] + [b"%d" % row])
    for row in range(3)
]
ARFF = HEADER + b"\n".join(ROWS) + b"\n"


@inputs(300, 50_000)
@given(EDITS)
def test_an_edited_row_is_read_as_it_says_or_refused(edits: list[tuple[float, int, bytes]]) -> None:
    arff = HEADER + edited(b"\n".join(ROWS) + b"\n", edits)
    if table := read_arff(packed(arff)):
        assert np.column_stack([table.pixels, table.labels]).tolist() == plainly(arff)


PIXELS = [b"255", b"00255", b" 9 ", b"\t8", b"0" * 5000 + b"3"]
NO_PIXELS = [
    b"256",
    b"999",
    b"'7'",
    b'"8"',
    b" 300",
    b"1e2",
    b"1 2",
    b"-0",
    b"+5",
    b"5.",
    b"?",
    b"",
]
ODD = [b"\0", b"'9", b"0x5", b"\xb2", b"10"]
TOKENS = st.sampled_from(PIXELS) | st.sampled_from(NO_PIXELS) | st.sampled_from(ODD)


@inputs(200, 10_000)
@given(st.integers(0, 2), st.integers(700, 784), TOKENS, st.booleans())
def test_one_value_is_read_as_it_says_or_refused(
    row: int, column: int, token: bytes, slowly: bool
) -> None:
    rows = [line.split(b",") for line in ROWS]
    rows[row][column] = token
    body = b"\n".join(b",".join(line) for line in rows)
    if slowly:  # a comment is nothing that Arrow could read
        body += b" % so it is"
    table = read_arff(packed(HEADER + body))
    # what the format and the digits allow, said another way than the reader does
    says = re.fullmatch(rb"[ \t]*0*(\d{1,3})[ \t]*", token)
    allowed = says is not None and int(says[1]) <= (9 if column == 784 else 255)
    assert (table is not None) == allowed
    if table and says:
        found = [*table.pixels[row].tolist(), int(table.labels[row])]
        assert found[column] == int(says[1])


@inputs(200, 20_000)
@given(EDITS)
def test_an_edited_arff_is_read_as_it_says_or_refused(
    edits: list[tuple[float, int, bytes]],
) -> None:
    arff = edited(ARFF, edits)
    if table := read_arff(packed(arff)):
        assert np.column_stack([table.pixels, table.labels]).tolist() == plainly(arff)


@pytest.mark.parametrize(
    "arff",
    [
        HEADER + b"% a comment\n" + b" " * 2_000_000 + b"1\n",
        HEADER + b" " * 2_000_000 + b"% a comment\n",
        b"@RELATION x\n@ATTRIBUTE " + b"a" * 900_000 + b"!\n@DATA\n",
        b"\n" * 2_000_000,
        b"@RELATION x\n" + b"%" * 3_000_000,
    ],
)
def test_the_time_to_read_or_refuse_grows_with_the_size_alone(arff: bytes) -> None:
    start = time.process_time()
    assert read_arff(packed(arff)) is None
    assert time.process_time() - start < 2


@inputs(200, 20_000)
@given(EDITS, st.sampled_from(["mnist_784.arff.gz", "mnist_5k.csv.gz", "mnist.idx.gz"]))
def test_an_edited_archive_is_refused_or_read(
    edits: list[tuple[float, int, bytes]], filename: str
) -> None:
    read_arff(Archive(edited(packed(ARFF).data, edits), filename))
    read_arff(Archive(edited(of_idx(IMAGES, LABELS).data, edits), filename))


@pytest.mark.parametrize(
    ("arff", "message"),
    [
        (HEADER.decode().encode("utf-16") + ROWS[0], "line 1: "),
        (HEADER + ROWS[0] + b"\0\n", "line 790: expected an integer from 0 to 9 as class"),
        (HEADER + b"\0" * 1000, "line 790: expected 784 pixels and a class, found 1 values"),
        (
            HEADER + b"1," * 5_000_000,
            "line 790: expected 784 pixels and a class, found 5000001 values",
        ),
        (b"%" * 10_000_000, "line \\d+: expected @DATA, the header goes on or ends"),
        (b"%\n" * 200_000, "line \\d+: expected @DATA, the header goes on or ends"),
        (HEADER[:-6] + ROWS[0], "line 789: expected @RELATION, @ATTRIBUTE"),
        (HEADER[:-6], "line \\d+: expected @DATA, the header goes on or ends"),
        (HEADER, "line 790: expected rows of digits, found none"),
    ],
)
def test_an_arff_that_is_none_is_refused_with_its_line(arff: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"mnist_784.arff.gz, .*{message}"):
        decode(packed(arff))


@pytest.mark.parametrize("kind", ["arff", "picture"])
def test_what_fuzzing_once_found_stays_fixed(kind: str) -> None:
    found = sorted((CORPUS / kind).iterdir())
    assert found
    for file in found:
        hostile.fuzz(kind, file.read_bytes())


LEVELS = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))


@inputs(150, 10_000)
@given(LEVELS, st.sampled_from(FORMS), st.integers(0, 6), st.integers(0, 5))
def test_any_picture_is_read_or_refused(
    shape: tuple[int, int, int], form: str, strokes: int, noise: int
) -> None:
    height, width, seed = shape
    random = np.random.default_rng(seed)
    levels = np.full((height, width), random.integers(0, 256), np.float64)
    for _ in range(strokes):
        top, left = random.integers(0, height), random.integers(0, width)
        bottom, right = random.integers(top, height) + 1, random.integers(left, width) + 1
        levels[top:bottom, left:right] = random.integers(0, 256)
    levels += random.normal(0, noise**2, levels.shape)
    read_picture(picture(levels.clip(0, 255).astype(np.uint8), form))


SEVEN = np.full((60, 60), 230, np.uint8)
SEVEN[10:16, 15:45] = SEVEN[10:50, 39:45] = 20


@inputs(150, 10_000)
@given(EDITS, st.sampled_from(FORMS))
def test_an_edited_image_file_is_read_or_refused(
    edits: list[tuple[float, int, bytes]], form: str
) -> None:
    assert read_picture(picture(SEVEN, form))
    read_picture(edited(picture(SEVEN, form), edits))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of 8 x 8 palette pixels with further chunks."""
    head = struct.pack(">2I5B", 8, 8, 8, 3, 0, 0, 0)
    body = zlib.compress(bytes([0, *range(8)]) * 8)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"iCCP", b""), (b"IEND", b"")]
    return resealed(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(data)) + name + data + bytes(4) for name, data in parts)
    )


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"PLTE", bytes(30)), (b"tRNS", bytes(300))],
        [],
        [(b"PLTE", bytes(24)), (b"iCCP", b"")],
        [(b"PLTE", bytes(2)), (b"tRNS", b"")],
        [(b"PLTE", bytes(24)), (b"acTL", bytes(3))],
    ],
)
def test_palettes_and_profiles_that_are_none_are_refused_or_overlooked(
    chunks: list[tuple[bytes, bytes]],
) -> None:
    read_picture(png_of(*chunks))


@inputs(150, 5_000)
@given(EDITS)
def test_a_png_edited_behind_its_checksums_is_read_or_refused(
    edits: list[tuple[float, int, bytes]],
) -> None:
    palette = (b"PLTE", bytes(range(24))), (b"tRNS", bytes(8))
    for png in (picture(SEVEN, "PNG"), png_of(*palette)):
        read_picture(resealed(edited(png, edits)))


def test_a_jpeg_of_thousands_of_scans_is_refused_before_they_are_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(SEVEN).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    assert read_picture(jpeg)
    last = jpeg.rindex(b"\xff\xda")
    with pytest.raises(PictureError, match="far too many scans"):
        files.grey(jpeg[:last] + jpeg[last:-2] * 1000 + jpeg[-2:])


TOML = (Path(__file__).parents[2] / "params.toml").read_bytes()


@inputs(100, 2_000)
@given(EDITS)
def test_edited_params_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, bytes]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "edited.toml"
    file.write_bytes(edited(TOML, edits))
    try:
        Params.load(file)
    except SettingsError as error:
        assert str(file) in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "dataset", "did", "data_set_description", "url", "md5_checksum"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@inputs(200, 5_000)
@given(JSON, JSON)
def test_whatever_json_the_api_answers_is_a_description_or_refused(one: Any, other: Any) -> None:
    answers = iter([one, other])

    def get(*arguments: Any, **more: Any) -> Answer:
        return Answer(json.dumps(next(answers)).encode(), "identity")

    try:
        openml.describe(Access(get, "http://127.0.0.1:9"))
    except SourceError as error:
        assert "http://127.0.0.1:9" in str(error)


class Planted:
    """A pickle of it makes a file where it is opened."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def with_members(data: bytes, members: dict[str, bytes]) -> bytes:
    """A zip file with some members beside, or instead of, its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.pop(name, old.read(name)))
        for name, content in members.items():
            new.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model_file(_furnished: Path) -> bytes:
    [file] = _furnished.glob("sgd_model/*/sgd_model.skops")
    return file.read_bytes()


def test_a_pickle_in_a_model_file_is_never_opened(model_file: bytes, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    pickled = pickle.dumps(Planted(planted))
    array = io.BytesIO()
    np.save(array, np.array([Planted(planted)], object), allow_pickle=True)
    with zipfile.ZipFile(io.BytesIO(model_file)) as file:
        arrays = [name for name in file.namelist() if name.endswith(".npy")]
    for content in (pickled, array.getvalue()):
        for name in arrays:
            with pytest.raises(FormatError, match="not a model file"):
                persistence.loads(with_members(model_file, {name: content}))
    with pytest.raises(FormatError, match="not a model file"):
        persistence.loads(pickled)
    assert not planted.exists()


def test_a_model_file_writes_nothing_wherever_its_members_point(
    model_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder)
    names = ["../evil", "../../evil", str(tmp_path / "evil"), "a\\..\\evil", "evil\0.npy"]
    persistence.loads(with_members(model_file, dict.fromkeys(names, b"evil")))
    assert {file.name for file in tmp_path.rglob("*")} == {"a", "b"}


NOT_TRUSTED = [
    ("builtins", "eval"),
    ("os", "system"),
    ("subprocess", "Popen"),
    ("shutil", "rmtree"),
]


def test_no_type_of_a_model_file_can_be_another(model_file: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(model_file)) as file:
        schema = file.read("schema.json").decode()
    places = [
        at.span() for at in re.finditer(r'"__class__": "\w+",\s*"__module__": "[\w.]+"', schema)
    ]
    assert len(places) > 20
    version, refused = persistence.loads(model_file).data_version, 0
    for number, (start, end) in enumerate(places):
        module, name = NOT_TRUSTED[number % len(NOT_TRUSTED)]
        other = f'{schema[:start]}"__class__": "{name}", "__module__": "{module}"{schema[end:]}'
        changed = with_members(model_file, {"schema.json": other.encode()})
        try:
            # of a plain value the type is only said
            assert persistence.loads(changed).data_version == version
        except FormatError:
            refused += 1
    assert refused > 20


@inputs(100, 5_000)
@given(edits=EDITS, at=st.integers(0, 100))
def test_an_edited_model_file_is_opened_or_refused(
    model_file: bytes, edits: list[tuple[float, int, bytes]], at: int
) -> None:
    with zipfile.ZipFile(io.BytesIO(model_file)) as file:
        names = file.namelist()
        name = names[at % len(names)]
        changed = with_members(model_file, {name: edited(file.read(name), edits)})
    for data in (changed, edited(model_file, edits)):
        try:
            persistence.loads(data)
        except (FormatError, IncompatibleModelError) as error:
            assert str(error)
