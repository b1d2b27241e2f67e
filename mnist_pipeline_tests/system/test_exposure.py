"""What other pages in the browser can do to the Dagster UI: nothing, also behind the proxy."""

import base64
import http.client
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.browser import launched
from mnist_pipeline_tests.support.clones import Clone
from mnist_pipeline_tests.support.servers import free_port, self_signed
from mnist_pipeline_tests.support.webserver import Webserver, running, until

MUTATION = 'mutation{setConcurrencyLimit(concurrencyKey:"hostile",limit:1)}'
QUERY = f"query={quote(MUTATION)}"
VERSION = "/graphql?query={version}"
LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
PREDICT = "/digits/api/predict"
REPORT = "report_asset_materialization/raw_mnist"
REPORTED = """{ assetOrError(assetKey: {path: ["raw_mnist"]}) {
    ... on Asset { assetMaterializations { runId } }
} }"""
NAME, USER = "digits.example.org", ("someone", "a password")
"""The name and a user of the proxy."""
LINK = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}

HOSTILE = """<!doctype html><title>A page of others</title><body><script>
const [ui, query, mutation, report] = ARGUMENTS;
for (const end of ["", "%0A", "/"]) new Image().src = `${ui}/graphql${end}?${query}`;
const tried = [`${ui}/graphql?${query}`, `${ui}/${report}`].flatMap((url) => {
    const form = Object.assign(document.createElement("form"), {action: url, method: "post"});
    const frame = Object.assign(document.createElement("iframe"), {name: url});
    document.body.append(frame, form);
    form.target = url;
    form.submit();
    navigator.sendBeacon(url, "x");
    return [
        fetch(url, {method: "POST", mode: "no-cors", body: "x"}),
        fetch(url, {method: "POST", mode: "no-cors", body: "x", credentials: "include"}),
    ];
});
const body = JSON.stringify({query: mutation});
tried.push(fetch(`${ui}/graphql`, {method: "POST", body,
                                   headers: {"Content-Type": "application/json"}}));
tried.push(new Promise((done) => {
    const socket = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
    socket.onopen = () => document.body.dataset.socket = "opened";
    socket.onclose = socket.onopen = done;
}));
const frame = Object.assign(document.createElement("iframe"), {src: ui, name: "framed"});
document.body.append(frame);
window.open(`${ui}/graphql?${query}`);
tried.push(new Promise((done) => frame.onload = done));
Promise.allSettled(tried).then(() => setTimeout(() => document.body.dataset.over = "1", 1000));
</script>"""


@contextmanager
def hostile_pages(ui: str) -> Iterator[int]:
    """Serve a page that attacks a UI, under every name; yield the port."""
    arguments = json.dumps([ui, QUERY, MUTATION, REPORT])
    page = HOSTILE.replace("ARGUMENTS", arguments).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def attack(browser: Browser, page_url: str, **context: Any) -> str:
    """Open a hostile page, wait for all that it tries; return the content of its frame."""
    opened = browser.new_context(**context)
    page = opened.new_page()
    page.goto(page_url)
    page.wait_for_selector("body[data-over]", timeout=180_000)
    assert page.locator("body[data-socket]").count() == 0, "a websocket was opened"
    [framed] = [frame for frame in page.frames if frame.name == "framed"]
    content = framed.content()
    opened.close()
    return content


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, **headers: str
) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers of an answer; headers are named with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, b"", named)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers


@pytest.fixture(scope="module")
def proxy_port() -> int:
    """Where the proxy listens in place of port 443."""
    return free_port()


@pytest.fixture(scope="module")
def chromium(proxy_port: int) -> Iterator[Browser]:
    """A browser that finds everything on this machine: the pages of others, too."""
    rules = f"MAP {NAME}:443 127.0.0.1:{proxy_port},MAP *.example 127.0.0.1"
    with launched(f"--host-resolver-rules={rules}") as browser:
        yield browser


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webserver]:
    """The UI over a copy of the project in which nothing was made."""
    clone = Clone.make(tmp_path_factory.mktemp("exposure") / "clone")
    with running(["mnist_pipeline.cli", "ui"], clone.folder, clone.environment()) as webserver:
        yield webserver


def untouched(ui: Webserver) -> bool:
    limits = ui.ask(LIMITS)["instance"]["concurrencyLimits"]
    reported = ui.ask(REPORTED)["assetOrError"].get("assetMaterializations", [])
    return not limits and not reported


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1"])
@pytest.mark.parametrize("target", ["127.0.0.1", "localhost"])
def test_a_hostile_page_changes_and_sees_nothing(
    host: str, target: str, ui: Webserver, chromium: Browser
) -> None:
    with hostile_pages(f"http://{target}:{ui.port}") as port:
        framed = attack(chromium, f"http://{host}:{port}/")
    assert "<title>Dagster" not in framed
    assert untouched(ui)


def test_a_name_of_others_that_leads_to_this_machine_shows_nothing(
    ui: Webserver, chromium: Browser
) -> None:
    page = chromium.new_page()
    answer = page.goto(f"http://rebound.example:{ui.port}/")
    assert answer is not None
    assert answer.status == 400
    asked = "query => fetch(`/graphql?${query}`, {method: 'POST'}).then(answer => answer.status)"
    assert page.evaluate(asked, QUERY) == 400
    page.close()
    assert untouched(ui)


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (200, "GET", "/", {}),
        (200, "GET", "/", {"Host": "localhost"}),
        (200, "GET", "/", {"Host": "[::1]:3000"}),
        (200, "GET", "/", LINK),
        (200, "POST", VERSION, {}),
        (200, "POST", VERSION, {"Origin": "http://localhost", "Host": "localhost"}),
        (200, "GET", "/runs?view=all", {"Sec_Fetch_Site": "same-origin"}),
        (403, "GET", "/", {"Sec_Fetch_Site": "same-site"}),
        (403, "GET", "/", LINK | {"Sec_Fetch_Dest": "iframe"}),
        (403, "POST", VERSION, LINK),
        (403, "POST", VERSION, {"Origin": "null"}),
        (403, "POST", VERSION, {"Origin": "https://localhost", "Host": "localhost"}),
        (403, "POST", f"/{REPORT}", {"Origin": "http://evil.example"}),
        (503, "POST", PREDICT, {}),
        (403, "POST", PREDICT, {"Origin": "http://evil.example"}),
        (403, "GET", PREDICT.replace("api/predict", "report"), LINK | {"Sec_Fetch_Dest": "iframe"}),
        (403, "OPTIONS", "/graphql", {"Origin": "http://evil.example"}),
        (405, "GET", VERSION, {}),
        (405, "GET", "/graphql%0A?query={version}", {}),
        (405, "GET", "/%67raphql?query={version}", LINK),
        (400, "GET", "/", {"Host": "evil.example"}),
        (400, "GET", "/", {"Host": "127.0.0.1.evil.example"}),
        (400, "POST", VERSION, {"Host": "evil.example:3000"}),
    ],
)  # fmt: skip
def test_the_ui_answers_its_own_pages_and_programs(
    status: int, method: str, path: str, headers: dict[str, str], ui: Webserver
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=30)
    found, answered = ask(connection, method, path, **headers)
    assert found == status
    assert "frame-ancestors 'none'" in answered.get_all("Content-Security-Policy")[-1]  # type: ignore[index]
    assert answered["Cross-Origin-Resource-Policy"] == "same-origin"


@contextmanager
def proxied(folder: Path, port: int, upstream: int) -> Iterator[None]:
    """Run nginx as SECURITY.md configures it, with another port, upstream and files."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx on this machine (Debian: apt-get install nginx)")
    [recipe] = re.findall("```nginx\n(.*?)```", (PROJECT / "SECURITY.md").read_text(), re.S)
    certificate = str(self_signed(folder, NAME))
    for old, new in {
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/digits.pem": certificate,
        "/etc/ssl/digits.key": certificate,
        "/etc/nginx/digits.htpasswd": str(folder / "htpasswd"),
        "127.0.0.1:3001": f"127.0.0.1:{upstream}",
    }.items():
        assert old in recipe
        recipe = recipe.replace(old, new)
    (folder / "htpasswd").write_text(f"{USER[0]}:{{PLAIN}}{USER[1]}\n")
    places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{one}_temp_path {folder}/{one};\n" for one in places)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; {'user root;' if os.geteuid() == 0 else ''}\n"
        "events {}\n"
        f"http {{ access_log {folder}/access; {temporary}\n{recipe}\n}}\n"
    )
    command = [nginx, "-p", str(folder), "-e", str(folder / "error"), "-c", "nginx.conf"]
    process = subprocess.Popen([*command], stdin=subprocess.DEVNULL)
    try:
        until((folder / "pid").exists, seconds=30, pause=0.1)
        yield
    finally:
        process.terminate()
        process.wait()


class ToProxy(http.client.HTTPSConnection):
    """A connection to the proxy under a name; its certificate is not verified."""

    def __init__(self, port: int, name: str = NAME) -> None:
        super().__init__("127.0.0.1", port, timeout=30)
        self.name = name
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self.name)


def test_the_proxy_of_the_security_page_lets_its_own_pages_in_and_no_others(
    tmp_path: Path, furnished_clone: Clone, proxy_port: int, chromium: Browser
) -> None:
    port = proxy_port
    home = str(furnished_clone.data / "dagster_home")
    environment = furnished_clone.environment(DAGSTER_HOME=home)
    command = ["dagster_webserver", "--read-only", "--workspace", "workspace.yaml"]
    own = f"https://{NAME}"
    password = base64.b64encode(":".join(USER).encode()).decode()
    known = {"Host": NAME, "Authorization": f"Basic {password}"}
    with (
        running(command, furnished_clone.folder, environment) as webserver,
        proxied(tmp_path, port, webserver.port),
    ):
        for status, method, path, headers in (
            (401, "GET", "/", {"Host": NAME}),
            (200, "GET", "/", known),
            (200, "GET", "/", known | LINK),
            (200, "POST", VERSION, known),
            (200, "POST", VERSION, known | {"Origin": own, "Sec_Fetch_Site": "same-origin"}),
            (403, "POST", VERSION, known | {"Origin": "https://evil.example"}),
            (403, "POST", VERSION, known | {"Origin": "null"}),
            (403, "POST", VERSION, known | {"Origin": f"{own}.evil.example"}),
            (403, "POST", VERSION, known | {"Origin": "https://digitsXexample.org"}),
            (403, "POST", VERSION, known | {"Sec_Fetch_Site": "same-site"}),
            (403, "POST", VERSION, known | LINK),
            (403, "GET", "/", known | {"Sec_Fetch_Site": "cross-site"}),
            (405, "GET", VERSION, known),
            (405, "GET", VERSION.replace("?", "%0A?"), known | LINK),
            (405, "GET", VERSION.replace("g", "%67", 1), known),
        ):
            found, answered = ask(ToProxy(port), method, path, **headers)
            assert found == status, (method, path, headers)
            assert answered["Content-Security-Policy"] or status != 200
        with pytest.raises(OSError, match="UNRECOGNIZED_NAME"):
            ToProxy(port, "evil.example").connect()
        context: dict[str, Any] = {
            "ignore_https_errors": True,
            "http_credentials": {"username": USER[0], "password": USER[1]},
        }
        page = chromium.new_context(**context).new_page()
        page.goto(f"{own}/runs")
        page.get_by_role("link", name=webserver.runs()[0]["runId"][:8]).wait_for()
        page.context.close()
        with hostile_pages(own) as hostile:
            framed = attack(chromium, f"http://evil.example:{hostile}/", **context)
        assert "<title>Dagster" not in framed
        log = (tmp_path / "access").read_text()
        assert '"GET /graphql HTTP/1.1" 101' in log, "its own pages have a websocket"
        assert set(re.findall(r'" (\d+) \d+ "http://evil.example', log)) <= {"401", "403", "405"}
