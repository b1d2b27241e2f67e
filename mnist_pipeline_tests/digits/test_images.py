"""Own digits: pictures opened with limits, digits found and prepared, and read by the champion."""

import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline.digits.data.shape import Shape
from mnist_pipeline.digits.errors import IncompatibleModelError, PictureError
from mnist_pipeline.digits.features import transformers
from mnist_pipeline.digits.images import files, normalize
from mnist_pipeline.digits.images.classify import read_digit
from mnist_pipeline.digits.model import persistence
from mnist_pipeline.digits.model.pipeline import TrainedModel
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline_tests.conftest import House
from mnist_pipeline_tests.support import photos
from mnist_pipeline_tests.support.photos import encoded, enlarged, on_paper, photo, reference

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def some() -> Digits:
    """Fifty real digits, five of each class."""
    table = decode(sample.read())
    places = np.arange(0, 5000, 100)
    origin = None
    return Digits(places.astype(np.int32), table.pixels[places], table.labels[places], origin)  # type: ignore[arg-type]


def of_file(data: bytes) -> Pixels:
    found: Pixels = normalize.prepare(files.grey(data), Shape(), reference()).pixels[0]
    return found


def prepared(image: Image.Image, form: str = "PNG", **more: object) -> Pixels:
    return of_file(encoded(image, form, **more))


def alike(one: Pixels, other: Pixels) -> float:
    """Correlation of two digits, where they lie best: centres are whole pixels."""
    square = one.reshape(28, 28)
    moved = [np.roll(square, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(np.corrcoef(image.ravel(), other)[0, 1]) for image in moved)


def test_a_digit_of_mnist_enlarged_comes_back_nearly_as_it_was(some: Digits) -> None:
    found = [alike(prepared(on_paper(pixels)), pixels) for pixels in some.pixels]
    assert np.median(found) > 0.97
    assert min(found) > 0.8


def test_what_is_prepared_is_in_a_box_of_20_and_centred_by_mass(some: Digits) -> None:
    for pixels in some.pixels[::3]:
        image = prepared(on_paper(pixels, side=390, margin=11)).reshape(28, 28).astype(float)
        sides = [int(np.ptp(np.flatnonzero(image.any(axis=axis)))) + 1 for axis in (0, 1)]
        assert max(sides) in {19, 20}, "an edge may round to no ink"
        for axis in (0, 1):
            centre = image.sum(axis=axis) @ np.arange(28) / image.sum()
            assert abs(centre - 14) <= 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_every_format_is_opened(form: str, some: Digits) -> None:
    image = on_paper(some.pixels[0]).convert("RGB")
    assert alike(prepared(image, form), some.pixels[0]) > 0.95


def test_dark_on_light_and_light_on_dark_are_the_same_digit(some: Digits) -> None:
    for pixels in some.pixels[::5]:
        image = on_paper(pixels)
        inverted = Image.eval(image, lambda level: 255 - level)
        np.testing.assert_allclose(
            prepared(inverted).astype(int), prepared(image).astype(int), atol=2
        )


@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_what_is_transparent_is_paper_whatever_colour_hides_there(
    mode: str, ink: int, some: Digits
) -> None:
    alpha = enlarged(some.pixels[7], 280)
    image = Image.merge("LA", (Image.new("L", alpha.size, ink), alpha))
    if mode == "RGBA":
        image = image.convert("RGBA")
    elif mode == "PA":
        image = image.convert("RGBA").quantize(16)
    assert alike(prepared(image), some.pixels[7]) > 0.9


def test_colours_bits_and_orientation_do_not_matter(some: Digits) -> None:
    pixels = some.pixels[12]
    upright = on_paper(pixels)
    wanted = prepared(upright)
    red_on_yellow = Image.merge("RGB", (upright.point(lambda v: 120 + v * 135 // 255), upright,
                                        upright.point(lambda v: v // 3)))  # fmt: skip
    deep = Image.fromarray(np.asarray(upright).astype(np.uint16) * 257)
    bilevel = upright.point(lambda level: 255 * (level > 127)).convert("1")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = encoded(upright.rotate(90, expand=True), "JPEG", exif=turned)
    for image in (red_on_yellow, deep, bilevel, upright.convert("CMYK")):
        form = "JPEG" if image.mode == "CMYK" else "PNG"
        assert alike(prepared(image, form), wanted) > 0.97, image.mode
    assert alike(of_file(lying), wanted) > 0.97


def test_a_digit_may_be_small_in_a_corner_or_fill_the_frame(some: Digits) -> None:
    for pixels in some.pixels[::5]:
        large = Image.new("L", (1600, 1200), 230)
        large.paste(30, (1450, 20), enlarged(pixels, 120))
        assert alike(prepared(large), pixels) > 0.8
        tight = on_paper(pixels).crop(on_paper(pixels).point(lambda v: 255 * (v < 128)).getbbox())
        assert alike(prepared(tight), pixels) > 0.8


def test_a_thin_pen_is_broadened_to_what_mnist_knows(some: Digits) -> None:
    from skimage.morphology import skeletonize

    pixels = some.pixels[25]
    line = skeletonize(  # type: ignore[no-untyped-call]
        np.asarray(enlarged(pixels, 560)) > 127
    )
    thin = prepared(Image.fromarray(np.where(line, 0, 255).astype(np.uint8)))
    assert thin.max() > 200
    assert alike(thin, pixels) > 0.6


@pytest.mark.parametrize("seed", range(10))
def test_empty_paper_has_no_digit_however_noisy_and_unevenly_lit(seed: int) -> None:
    with pytest.raises(PictureError, match="shows no digit"):
        prepared(photos.empty(np.random.default_rng(seed)))


def beside_paper() -> Image.Image:
    """The edge of a table, dark, and nothing on the paper."""
    edge = Image.new("L", (400, 300), 240)
    edge.paste(20, (0, 0, 120, 300))
    return edge


def test_what_comes_in_from_beside_the_paper_is_not_a_stroke(some: Digits) -> None:
    for pixels in some.pixels[::5]:
        lined = Image.new("L", (500, 600), 235)
        for top in range(20, 600, 110):
            lined.paste(90, (0, top, 500, top + 3))
        lined.paste(30, (210, 30, 290, 110), enlarged(pixels, 80))
        cornered = on_paper(pixels, margin=120)
        cornered.paste(10, (0, 0, 60, 90))
        cornered.paste(10, (300, 490, 520, 520))
        assert alike(prepared(cornered), pixels) > 0.8
        try:
            found = prepared(lined)
        except PictureError:
            continue
        assert alike(found, pixels) > 0.6


def test_a_sheet_turned_on_nothing_is_paper(some: Digits) -> None:
    sheet = on_paper(some.pixels[20]).convert("RGBA")
    turned = sheet.rotate(12, Image.Resampling.BICUBIC, expand=True)
    upright = sheet.convert("L").rotate(12, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    assert alike(prepared(turned), prepared(upright)) > 0.95


def test_a_phones_picture_with_more_in_it_or_with_damaged_facts_is_read(some: Digits) -> None:
    first, second = on_paper(some.pixels[0]), on_paper(some.pixels[20])
    phone = encoded(first.convert("RGB"), "MPO", save_all=True, append_images=[second])
    assert alike(of_file(phone), some.pixels[0]) > 0.95
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(first.rotate(90, expand=True), "JPEG", exif=exif)
    start = whole.index(b"Exif")
    for place in range(start, start + 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            files.grey(bytes(damaged))
        except PictureError:
            continue


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_damaged_exif_data_is_read(some: Digits, form: str) -> None:
    picture = on_paper(some.pixels[0])
    damaged = encoded(picture.convert("RGB"), form, exif=b"Exif\x00\x00garbage that is no TIFF")
    assert alike(of_file(damaged), some.pixels[0]) > 0.9


def test_a_png_with_damaged_metadata_is_read(some: Digits) -> None:
    whole = encoded(on_paper(some.pixels[0]))
    too_long = b"a\0\0" + zlib.compress(bytes(80_000_000))
    # without a checksum that is right
    kinds = [(b"cHRM", b"?"), (b"gAMA", b""), (b"sRGB", b""), (b"acTL", b"?"), (b"iCCP", b"?"),
             (b"pHYs", b"?"), (b"eXIf", b"?"), (b"zTXt", too_long)]  # fmt: skip
    for kind, content in kinds:
        chunk = len(content).to_bytes(4) + kind + content + bytes(4)
        assert alike(of_file(whole[:33] + chunk + whole[33:]), some.pixels[0]) > 0.9, kind


def test_a_jpeg_with_damaged_metadata_is_read(some: Digits) -> None:
    whole = encoded(on_paper(some.pixels[0]), "JPEG")
    kinds = [(0xE0, b"JFIF"), (0xEE, b"Adobe"), (0xE2, b"ICC_PROFILE\0"), (0xE2, b"MPF\0?"),
             (0xED, b"Photoshop 3.0\0" b"8BIM\4\1")]  # fmt: skip
    for kind, content in kinds:
        segment = bytes([0xFF, kind]) + (2 + len(content)).to_bytes(2) + content
        assert alike(of_file(whole[:2] + segment + whole[2:]), some.pixels[0]) > 0.9, content


def test_what_shows_no_single_digit_is_refused_with_a_reason(some: Digits) -> None:
    two = Image.new("L", (800, 400), 255)
    for left, pixels in ((40, some.pixels[0]), (420, some.pixels[30])):
        two.paste(0, (left, 60), enlarged(pixels, 280))
    dash = Image.new("L", (400, 400), 255)
    dash.paste(0, (50, 190, 350, 215))
    speck = Image.new("L", (800, 800), 255)
    speck.paste(0, (400, 400, 421, 421))
    for image, reason in (
        (two, "shows 2 things that could be digits: give .* one"),
        (dash, "nothing that looks like a digit the model knows: give .* one"),
        (speck, "only lines, specks, .* give .* one"),
        (Image.new("L", (300, 300), 128), "nothing stands out as ink .* give .* one"),
        (Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "nothing stands out as ink .* give .* one"),
        (Image.new("L", (3, 40), 128), "too few pixels a side"),
        (beside_paper(), "nothing stands out as ink .* give .* one"),
    ):
        with pytest.raises(PictureError, match=reason):
            prepared(image)


def test_files_that_are_no_pictures_damaged_or_too_large_are_refused(
    some: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoded(on_paper(some.pixels[0]), "PNG")
    moving = encoded(
        on_paper(some.pixels[0]), "PNG", save_all=True, append_images=[on_paper(some.pixels[1])]
    )
    for data, reason in (
        (b"", "is not a PNG"),
        (b"%PDF-1.7 and so on", "is not a PNG"),
        (encoded(on_paper(some.pixels[0]), "GIF"), "is not a PNG"),
        (whole[: len(whole) // 2], "is damaged"),
        (moving, "several pictures"),
    ):
        with pytest.raises(PictureError, match=reason):
            files.grey(data)
    # a small file that would fill the memory is refused by what its header says
    bomb = encoded(Image.new("1", (20_000, 7_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(PictureError, match="20,000 x 7,000 pixels"):
        files.grey(bomb)
    monkeypatch.setattr(files, "MOST_BYTES", 1_000_000)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="is not a file"):
        files.read(tmp_path / "pipe.png")
    file = tmp_path / "large.png"
    file.write_bytes(b"x" * 1_000_001)
    with pytest.raises(PictureError, match="larger than 1 MB"):
        files.read(file)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_damaged_file_ends_in_a_message_or_a_digit_never_in_a_crash(
    form: str, some: Digits
) -> None:
    whole = encoded(on_paper(some.pixels[3], side=100, margin=10), form)
    rng = np.random.default_rng(5)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        try:
            of_file(bytes(data[: rng.integers(1, len(data) + 1)]))
        except PictureError:
            continue


def test_a_model_is_not_used_with_code_that_computes_other_features(
    furnished: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = furnished.made("sgd_model").path.read_bytes()
    persistence.loads(data)
    monkeypatch.setattr(transformers, "_FAINT", 0.5)
    with pytest.raises(IncompatibleModelError, match="computes other features"):
        persistence.loads(data)


def full_model(folder: Path) -> TrainedModel:
    [file] = folder.glob("sgd_model/*/sgd_model.skops")
    return persistence.loads(file.read_bytes())


def full_test(folder: Path) -> Digits:
    [file] = folder.glob("test_set/*/test_set.parquet")
    return Digits.read(file)


def test_of_80_photos_of_test_digits_95_percent_are_read_right(full_size: Path) -> None:
    model, test = full_model(full_size), full_test(full_size)
    rng = np.random.default_rng(2026)
    rows = rng.choice(len(test), 80, replace=False)
    forms = ["PNG", "JPEG", "WEBP", "BMP"]
    right = 0
    for number, row in enumerate(rows):
        image = photo(test.pixels[row], rng, inverted=number % 2 == 1)
        try:
            digit = read_digit(model, encoded(image, forms[number // 2 % 4])).digit
        except PictureError:
            continue
        right += digit == test.labels[row]
    assert right >= 76, right


def test_of_40_lined_folded_and_framed_pages_and_sheets_on_tables_36_are_read_and_one_is_wrong(
    furnished: House,
) -> None:
    model = persistence.loads(furnished.made("sgd_model").path.read_bytes())
    test = Digits.read(furnished.made("test_set").path)
    rng = np.random.default_rng(11)
    answers = []
    for kind in photos.PAGES * 5:
        row = int(rng.integers(len(test)))
        page = photos.page(test.pixels[row], rng, kind)
        with contextlib.suppress(PictureError):
            answers.append(read_digit(model, page).digit == test.labels[row])
    assert answers.count(True) >= 36, answers
    assert answers.count(False) <= 1, answers


def test_a_crop_at_the_digits_edges_is_the_digit(some: Digits) -> None:
    for pixels in some.pixels[::7]:
        for crop in photos.crops(pixels).values():
            assert alike(prepared(crop), pixels) > 0.8


def test_a_small_picture_is_the_digit_with_and_without_paper_around_it(some: Digits) -> None:
    for pixels in some.pixels[::3]:
        for name, picture in photos.small(pixels).items():
            assert alike(prepared(picture), pixels) > 0.8, name


@pytest.mark.parametrize(
    ("kind", "least"), [("28 px", 57), ("20 px and 2 of paper", 57), ("20 px", 54)]
)
def test_test_digits_in_small_pictures_are_read(furnished: House, kind: str, least: int) -> None:
    model = persistence.loads(furnished.made("sgd_model").path.read_bytes())
    test = Digits.read(furnished.made("test_set").path)
    answers = []
    for pixels in test.pixels[:60]:
        try:
            answers.append(read_digit(model, encoded(photos.small(pixels)[kind])).digit)
        except PictureError:
            answers.append(-1)
    assert np.sum(answers == test.labels[:60]) >= least, answers


def test_typicality_is_that_of_digits_for_digits_and_little_for_what_is_none(some: Digits) -> None:
    digits = reference().compare(some.pixels)
    turned = np.rot90(some.pixels.reshape(-1, 28, 28), axes=(1, 2)).reshape(-1, 784)
    others = reference().compare(np.ascontiguousarray(turned[some.labels != 0]))
    assert np.median(digits) > 0.3
    assert np.median(others) < 0.05


@pytest.mark.parametrize("json_too", [True, False])
def test_a_name_that_stdout_cannot_encode_is_escaped_and_the_others_answered(
    furnished: House, some: Digits, tmp_path: Path, json_too: bool
) -> None:
    names = [os.fsdecode(name) for name in (b"\xff.png", "drei-\u00e9.png".encode(), b"plain.png")]
    for name in names:
        (tmp_path / name).write_bytes(encoded(on_paper(some.pixels[17])))
    completed = furnished.process(
        "predict",
        *["--json"] * json_too,
        *(str(tmp_path / name) for name in names),
        variables={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
    )
    assert completed.returncode == 0, completed.stderr
    if json_too:
        answers = json.loads(completed.stdout)
        assert [Path(one["path"]).name for one in answers] == ["\\xff.png", names[1], names[2]]
        assert [one["digit"] for one in answers] == [3, 3, 3]
    else:
        lines = completed.stdout.splitlines()[1:]
        assert [line[0] for line in lines] == ["3", "3", "3"]
        ends = ["xff.png", "drei-\\xe9.png", "plain.png"]
        assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True)), lines


@pytest.fixture
def folder(some: Digits, tmp_path: Path) -> Path:
    """Pictures of a 0, a 3 and a 7, and three files that show no digit."""
    where = tmp_path / "pictures"
    where.mkdir()
    for name, place in (("zero.png", 2), ("<b>three.webp", 17), ("seven.bmp", 36)):
        form = {"png": "PNG", "webp": "WEBP", "bmp": "BMP"}[name.rpartition(".")[2]]
        (where / name).write_bytes(encoded(on_paper(some.pixels[place]), form))
    (where / "empty.png").write_bytes(encoded(Image.new("L", (200, 200), 200)))
    (where / "broken.jpg").write_bytes(encoded(on_paper(some.pixels[2]), "JPEG")[:500])
    return where


def test_predict_answers_what_it_can_and_says_what_it_cannot(
    furnished: House, folder: Path
) -> None:
    names = ["zero.png", "<b>three.webp", "seven.bmp", "empty.png", "broken.jpg", "missing.png"]
    paths = [str(folder / name) for name in [*names, names[0]]]
    completed = furnished.cli("predict", "--json", *paths)
    assert completed.returncode == 1
    answers = json.loads(completed.stdout)
    assert [answer["path"] for answer in answers] == paths
    assert answers.pop() == answers[0], "asked twice, answered twice"
    assert [answer["digit"] for answer in answers[:3]] == [0, 3, 7]
    for answer in answers[:3]:
        assert set(answer) == {"path", "digit", "name", "confidence", "typicality", "scores"}
        assert 0 <= answer["typicality"] <= 1
        assert list(answer["scores"]) == [str(digit) for digit in range(10)]
        assert sum(answer["scores"].values()) == pytest.approx(1)
        assert answer["confidence"] == max(answer["scores"].values())
    for answer, reason in zip(
        answers[3:], ["shows no digit", "is damaged", "No such file"], strict=True
    ):
        assert set(answer) == {"path", "error"}
        assert reason in answer["error"]
        assert answer["path"] in answer["error"]

    shown = furnished.cli("predict", *paths[:3])
    assert shown.returncode == 0
    assert re.search(r"7 +[\d.]+% \(\d: [\d.]+%\) .*seven\.bmp", shown.stdout)


def test_predict_draws_what_the_model_saw(furnished: House, tmp_path: Path) -> None:
    """A bar, each line of it two rows of pixels: upright from the first line on."""
    image = np.full((28, 28), 255, np.uint8)
    image[4:24, 12:16] = 0
    Image.fromarray(image).save(tmp_path / "one.png")
    shown = furnished.cli("predict", str(tmp_path / "one.png"))
    assert shown.returncode == 0, shown.stderr
    drawn = shown.stdout.splitlines()[3:]
    assert len(drawn) == 10
    assert all(re.fullmatch(r" {12}[\u2580-\u2588]{4}", line) for line in drawn)


def test_without_a_champion_predict_says_what_makes_one(house: House, folder: Path) -> None:
    completed = house.cli("predict", str(folder / "zero.png"), "--json")
    assert completed.returncode == 1
    assert "there is no champion yet" in json.loads(completed.stdout)["error"]


def test_the_champion_answers_not_the_newest_model(
    furnished: House, folder: Path, params: Callable[[str], str]
) -> None:
    path = str(folder / "zero.png")
    [before] = json.loads(furnished.cli("predict", "--json", path).stdout)
    scaled = {"MNIST_PARAMS": params('[model]\npreset = "scaled"\n')}
    assert furnished.materialize("key:sgd_model+", scaled).success
    assert "refused" in furnished.made("champion_model").metadata["decision"]
    [after] = json.loads(furnished.cli("predict", "--json", path).stdout)
    assert after == before


def test_a_materialization_that_was_only_reported_changes_no_answer_of_the_champion(
    furnished: House, folder: Path
) -> None:
    reported = dg.AssetMaterialization("champion_model")
    furnished.instance.report_runless_asset_event(reported)
    [answer] = json.loads(furnished.cli("predict", "--json", str(folder / "zero.png")).stdout)
    assert answer["digit"] == 0
