"""`mnist-pipeline draw`: its pages in a browser, its API, and what its server refuses."""

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openapi_schema_validator
import openapi_spec_validator
import pandas as pd
import pytest
from playwright.sync_api import Browser, FloatRect, Page, Response

from mnist_pipeline.digits.data.dataset import Digits
from mnist_pipeline_tests.conftest import COMMAND, NEUTRAL, House, house_of
from mnist_pipeline_tests.support.browser import SCHEMES, WIDTHS, launched, opened
from mnist_pipeline_tests.support.photos import encoded, enlarged
from mnist_pipeline_tests.support.strokes import SIDE, strokes
from mnist_pipeline_tests.support.webserver import until

PREDICT = "/api/predict"


@contextmanager
def drawing(folder: Path, *more: str) -> Iterator[int]:
    """Run the command over a data folder; yield its port."""
    process = subprocess.Popen(
        [sys.executable, *COMMAND, "draw", "--port", "0", *more],
        env=os.environ | NEUTRAL | house_of(folder) | {"PYTHONUNBUFFERED": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line, process.communicate()[1]
        yield int(line.partition("127.0.0.1:")[2].partition("/")[0])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser that does not wait for a screen: hundreds of strokes are drawn here."""
    with launched("--disable-gpu-vsync", "--disable-frame-rate-limit") as browser:
        yield browser


@pytest.fixture(scope="module")
def full_port(full_size: Path) -> Iterator[int]:
    """The page over the champion of all 70,000 digits."""
    with drawing(full_size) as port:
        yield port


@pytest.fixture(scope="module")
def drawn(full_size: Path) -> Digits:
    [file] = full_size.glob("test_set/*/test_set.parquet")
    return Digits.read(file)


def ask(
    port: int, method: str = "POST", path: str = PREDICT, body: Any = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; headers are named with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    # a header that comes twice counts as one
    answered = {k.lower(): ", ".join(response.headers.get_all(k) or []) for k in response.headers}
    answer = response.status, answered, response.read()
    connection.close()
    return answer


def boxes(page: Page, selector: str) -> list[FloatRect]:
    """Where the elements are, as far as they are drawn."""
    return [box for one in page.locator(selector).all() if (box := one.bounding_box())]


def draw(page: Page, digits: Digits, place: int) -> Response:
    """Draw a digit with the mouse, over a sheet that is cleared first; return the last answer."""
    page.locator("#clear").click()
    sheet = page.locator("#sheet").bounding_box()
    assert sheet is not None
    for stroke in strokes(digits.pixels[place]):
        points = [
            (sheet["x"] + sheet["width"] * column / SIDE, sheet["y"] + sheet["height"] * row / SIDE)
            for row, column in stroke
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        with page.expect_response("**/api/predict?*") as answered:
            page.mouse.up()
    return answered.value


def test_of_20_test_digits_drawn_with_the_mouse_19_are_read_right(
    full_port: int, drawn: Digits, chromium: Browser
) -> None:
    places = np.random.default_rng(7).choice(len(drawn), 100, replace=False)[:20]
    right = 0
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        for place in places:
            answer = draw(page, drawn, place)
            right += answer.ok and answer.json()["digit"] == drawn.labels[place]
    assert right >= 19, right


def test_the_page_shows_digit_bars_what_was_seen_and_the_nearest(
    full_port: int, drawn: Digits, chromium: Browser
) -> None:
    place = int(np.flatnonzero(drawn.labels == 3)[0])
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        hint = page.get_by_text("draw a digit here")
        assert hint.is_visible()
        draw(page, drawn, place)
        page.wait_for_selector('body[data-digit="3"]')
        assert not hint.is_visible()
        assert "3" in page.locator("#predicted strong").inner_text()
        bars = page.locator("meter").evaluate_all("all => all.map(one => one.value)")
        assert len(bars) == 10
        assert sum(bars) == pytest.approx(1)
        assert max(bars) == bars[3]
        labels = page.locator("#near b").all_inner_texts()
        assert len(labels) == 8
        assert labels[0] == "3"
        assert len({item["y"] for item in boxes(page, "#near li")}) == 1, "in one row"
        ink = "canvas => canvas.getContext('2d').getImageData(0, 0, 28, 28).data"
        dark = page.locator("#seen").evaluate(f"c => [...({ink})(c)].filter(v => v < 50).length")
        assert dark > 50
        page.locator("#undo").click()
        page.locator("#clear").click()
        assert page.evaluate("document.body.dataset.digit") == ""
        assert hint.is_visible()


def test_a_picture_can_be_chosen_dropped_or_pasted(
    full_port: int, drawn: Digits, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "<img src=x>.png"
    place = int(np.flatnonzero(drawn.labels == 6)[0])
    file.write_bytes(encoded(enlarged(drawn.pixels[place], 400)))
    give = """([event, bytes]) => {
        const given = new DataTransfer();
        given.items.add(new File([new Uint8Array(bytes)], "six.png", {type: "image/png"}));
        const name = event === "paste" ? "clipboardData" : "dataTransfer";
        const kind = event === "paste" ? ClipboardEvent : DragEvent;
        dispatchEvent(new kind(event, {[name]: given, cancelable: true}));
    }"""
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        page.set_input_files("#file", file)
        page.wait_for_selector('body[data-digit="6"]')
        for event in ("drop", "paste"):
            page.locator("#clear").click()
            page.evaluate(give, [event, list(file.read_bytes())])
            page.wait_for_selector('body[data-digit="6"]')


def test_the_page_warns_of_a_picture_that_is_hardly_like_a_digit(
    full_port: int, drawn: Digits, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "lying.png"
    for place in np.flatnonzero(np.isin(drawn.labels, [2, 3, 5]))[:100]:
        lying = np.rot90(drawn.pixels[place].reshape(28, 28)).ravel()
        file.write_bytes(encoded(enlarged(lying, 300)))
        status, _, body = ask(full_port, body=file.read_bytes())
        if status == 200 and json.loads(body)["typicality"] < 0.05:
            break
    else:
        pytest.fail("no lying digit is answered with a warning")
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        page.set_input_files("#file", file)
        warning = page.locator("#predicted em")
        warning.wait_for()
        assert "unlike the training digits" in warning.inner_text()
        page.locator("#clear").click()
        assert warning.count() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_everybody_can_use_the_pages_in_both_schemes_on_phone_and_desktop(
    scheme: str,
    width: int,
    full_port: int,
    drawn: Digits,
    chromium: Browser,
    violations: Callable[[Page], list[str]],
) -> None:
    shape = {"width": width, "height": 900}
    url = f"http://127.0.0.1:{full_port}/"
    with opened(chromium, url, viewport=shape, color_scheme=scheme) as page:
        draw(page, drawn, 0)
        page.wait_for_selector('body[data-digit="8"]')
        page.locator("#near li").last.wait_for()
        if width == WIDTHS["desktop"]:
            assert page.evaluate("document.documentElement.scrollHeight") <= 900
        for link in (None, "Champion", "API"):
            if link:
                page.get_by_role("link", name=link).click()
                page.locator("h1").get_by_text(link).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert violations(page) == []


@pytest.mark.parametrize("path", ["/", "/champion", "/api", "/nothing"])
def test_the_pages_are_valid_html(
    path: str, full_port: int, tmp_path: Path, html_errors: Callable[[Path], list[str]]
) -> None:
    _, headers, body = ask(full_port, "GET", path, Accept="text/html")
    assert headers["content-type"].startswith("text/html")
    file = tmp_path / "page.html"
    file.write_bytes(body)
    assert html_errors(file) == []


def test_the_newest_report_is_a_page_that_can_do_nothing_but_show_itself(
    full_port: int, full_size: Path, chromium: Browser
) -> None:
    [file] = full_size.glob("report/*/report.html")
    status, headers, body = ask(full_port, "GET", "/report")
    assert (status, body) == (200, file.read_bytes())
    assert "default-src 'none'" in headers["content-security-policy"]
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        page.get_by_role("link", name="Report").click()
        page.locator("#matrix button").first.click()
        page.locator("#cell img").first.wait_for()
        assert page.evaluate("origin") == "null"
        ink = "image => image.decode().then(() => image.naturalWidth)"
        assert page.locator("#cell img").first.evaluate(ink) == 28


def test_the_champions_page_lists_the_decisions(full_port: int, chromium: Browser) -> None:
    with opened(chromium, f"http://127.0.0.1:{full_port}/champion") as page:
        [decision] = page.locator(".decisions li").all_inner_texts()
        assert decision.startswith("promoted ")
        assert "beats the floor" in decision
        model = page.locator(".facts code").inner_text()
        assert model[:12] in decision
        assert page.get_by_text("preset fast").is_visible()


def test_the_api_answers_pictures_and_pixels_as_predict_does(
    furnished: House, tmp_path: Path
) -> None:
    test = Digits.read(furnished.made("test_set").path)
    picture = tmp_path / "digit.png"
    picture.write_bytes(encoded(enlarged(test.pixels[0], 300)))
    [expected] = json.loads(furnished.cli("predict", "--json", str(picture)).stdout)
    del expected["path"]
    with drawing(furnished.folder) as port:
        for kind in ("image/png", "application/octet-stream"):
            status, _, body = ask(port, body=picture.read_bytes(), Content_Type=kind)
            assert (status, json.loads(body)) == (200, expected)
        nearest = f"{PREDICT}?nearest=3"
        more = json.loads(ask(port, path=nearest, body=picture.read_bytes())[2])
        assert more.keys() - expected.keys() == {"warning", "pixels", "nearest", "model"}
        assert len(more["nearest"]) == 3

        def ask_pixels(pixels: object) -> tuple[int, Any]:
            body = json.dumps({"pixels": pixels})
            status, _, answer = ask(port, body=body, Content_Type="application/json")
            return status, json.loads(answer)

        predictions = pd.read_parquet(furnished.made("predictions").path)
        for place in range(5):
            rows = test.pixels[place].reshape(28, 28).tolist()
            status, answer = ask_pixels(rows)
            assert status == 200
            assert answer.keys() == expected.keys()
            assert answer["digit"] == predictions["prediction"][place]
            assert answer["confidence"] == pytest.approx(predictions["confidence"][place])
        wrong: list[object] = [[], [[0]], rows[1:], [[256] * 28] * 28, [[0.5] * 28] * 28, {}]
        for one in wrong:
            status, answer = ask_pixels(one)
            assert (status, answer["error"]) == (
                422,
                "The picture is not 28 rows of 28 whole numbers from 0 to 255.",
            )
        for status, path, kind in (
            (422, PREDICT, "application/json"),
            (415, PREDICT, "text/plain"),
            (400, f"{PREDICT}?nearest=-1", "image/png"),
            (400, f"{PREDICT}?nearest=101", "image/png"),
        ):
            found, _, body = ask(port, path=path, body=b"[]", Content_Type=kind)
            assert found == status
            assert json.loads(body)["error"]


def test_the_api_is_described_in_openapi(full_port: int, drawn: Digits) -> None:
    description = json.loads(ask(full_port, "GET", "/api/openapi.json")[2])
    openapi_spec_validator.OpenAPIV31SpecValidator(description).validate()
    [server] = description["servers"]
    [path] = description["paths"]
    schemas = {"components": description["components"]}
    answer = "#/components/schemas/Prediction"
    digit = encoded(enlarged(drawn.pixels[0], 300))
    for query in ("", "?nearest=2"):
        status, _, body = ask(full_port, path=f"{server['url']}{path}{query}", body=digit)
        assert status == 200
        openapi_schema_validator.validate(json.loads(body), {"$ref": answer, **schemas})


def test_pages_of_others_and_what_is_no_digit_get_no_answer(full_port: int, drawn: Digits) -> None:
    digit = encoded(enlarged(drawn.pixels[0], 300))
    own = f"http://127.0.0.1:{full_port}"
    status, headers, body = ask(full_port, body=digit, Origin=own)
    assert (status, json.loads(body)["digit"]) == (200, 8)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert ask(full_port, body=digit)[0] == 200, "no browser, no origin"
    for foreign in ("http://evil.example", f"http://127.0.0.1:{full_port + 1}", "null",
                    f"https://127.0.0.1:{full_port}"):  # fmt: skip
        assert ask(full_port, body=digit, Origin=foreign)[0] == 403
        assert ask(full_port, "GET", "/", Origin=foreign)[0] == 403
    assert ask(full_port, body=digit, Host="evil.example")[0] == 400
    assert ask(full_port, "GET", "/", Host=f"evil.example:{full_port}")[0] == 400
    assert ask(full_port, "GET", PREDICT)[0] == 405
    assert ask(full_port, "GET", "/files/../__init__.py")[0] == 404
    status, _, body = ask(full_port, body=b"no picture")
    assert status == 422
    assert "is not a PNG" in json.loads(body)["error"]


def test_a_picture_that_is_too_large_is_not_taken_in(full_port: int) -> None:
    status, _, body = ask(full_port, body=b"", Content_Length="10000001")
    assert status == 413
    assert "larger than 10 MB" in json.loads(body)["error"]

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1 << 18)

    # of unknown length: read up to the limit, and the rest is not waited for
    connection = http.client.HTTPConnection("127.0.0.1", full_port, timeout=30)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        connection.request("POST", PREDICT, chunks(), encode_chunked=True)
        assert connection.getresponse().status == 413
    assert ask(full_port, "GET", "/")[0] == 200


def test_connections_without_a_whole_request_end_before_the_server_and_with_it(
    furnished: House,
) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    # the connections are closed after the server has ended
    with contextlib.ExitStack() as stack, drawing(furnished.folder) as port:
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        stack.callback(kept.close)
        kept.request("GET", "/")
        assert kept.getresponse().read()
        idle = []
        for sent in [b"", head[:-1], head + b"\r\n1"] * 15:
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            stack.callback(connection.close)
            connection.sendall(sent)
            idle.append(connection)
        assert ask(port, "GET", "/")[0] == 503
        until(lambda: ask(port, "GET", "/")[0] == 200, seconds=15)
        for connection in [*idle, kept.sock]:
            while connection.recv(1000):  # until it is closed; some got 503 before
                pass
        # the server ends though these pictures do not come
        for _ in range(3):
            coming = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            stack.callback(coming.close)
            coming.putrequest("POST", PREDICT)
            coming.putheader("Content-Length", "1000")
            coming.endheaders(b"x")
        assert ask(port, "GET", "/")[0] == 200


def test_only_one_finger_draws(full_port: int, drawn: Digits, chromium: Browser) -> None:
    with opened(chromium, f"http://127.0.0.1:{full_port}/") as page:
        sheet = page.locator("#sheet").bounding_box()
        assert sheet is not None
        touch = """([x, y, id, kind]) => document.getElementById("sheet").dispatchEvent(
            new PointerEvent(kind, {clientX: x, clientY: y, pointerId: id, bubbles: true}))"""
        x, y = sheet["x"] + 40, sheet["y"] + 40
        page.evaluate(
            "document.getElementById('sheet').setPointerCapture = () => undefined"
        )  # there is no such pointer
        page.evaluate(touch, [x, y, 1, "pointerdown"])
        page.evaluate(touch, [x + 150, y + 150, 2, "pointerdown"])
        page.evaluate(touch, [x + 150, y + 160, 2, "pointermove"])
        page.evaluate(touch, [x, y + 100, 1, "pointermove"])
        dark = """() => {
            const sheet = document.getElementById("sheet");
            const all = sheet.getContext("2d").getImageData(sheet.width / 2, 0, 280, 560).data;
            return all.filter((value) => value < 50).length;
        }"""
        assert page.evaluate(dark) == 0, "nothing on the right half"
        page.evaluate(touch, [x, y + 100, 1, "pointerup"])


def test_no_drawing_is_kept_and_the_current_champion_answers(
    furnished: House, params: Callable[[str], str]
) -> None:
    test = Digits.read(furnished.made("test_set").path)

    def promote(seed: int) -> str:
        # in a process of its own: an event loop of the browser may run in this one
        other = {"MNIST_PARAMS": params(f"[model]\nrandom_state = {seed}\n")}
        completed = furnished.cli("run", "--select", "key:sgd_model+", variables=other)
        assert completed.returncode == 0, completed.stderr
        return furnished.made("sgd_model").data_version

    digit = encoded(enlarged(test.pixels[0], 300))
    before = {file for file in furnished.folder.rglob("*") if "dagster_home" not in file.parts}
    with drawing(furnished.folder) as port:
        assert ask(port, body=digit)[0] == 200
        assert b"is not kept" in ask(port, "GET", "/")[2]
        after = {file for file in furnished.folder.rglob("*") if "dagster_home" not in file.parts}
        assert after == before

        with_model = f"{PREDICT}?nearest=1"
        first = json.loads(ask(port, path=with_model, body=digit)[2])["model"]
        promoted = promote(1)
        assert first != json.loads(ask(port, path=with_model, body=digit)[2])["model"] == promoted
        promote(2)
        furnished.made("sgd_model").path.unlink()
        status, _, body = ask(port, body=digit)
        assert status == 503
        assert "is gone from the store" in json.loads(body)["error"]
        status, _, body = ask(port, "GET", "/champion")
        assert status == 503
        assert b"is gone from the store" in body
        assert body.count(b"<b>promoted</b>") == 3


def test_without_a_champion_or_a_free_port_draw_says_so(house: House) -> None:
    completed = house.cli("draw", "--port", "0")
    assert completed.returncode == 1
    assert "there is no champion yet" in completed.stderr
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    with server:
        completed = house.cli("draw", "--port", str(server.server_port))
    assert completed.returncode == 2
    assert f"--port {server.server_port} cannot be used" in completed.stderr
