import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from service.http.page import FOLDER
from tests.service.conftest import API_KEY, ScriptedRecognizer, Serve

ROOT = Path(__file__).parents[3]
FILES = sorted(path.name for path in FOLDER.iterdir())
ASSETS = [name for name in FILES if name != "index.html"]
PATHS = ["/", *(f"/page/{name}" for name in ASSETS)]


class References(HTMLParser):
    """Collects what a document loads."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(document)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


@pytest.mark.parametrize("path", PATHS)
def test_every_file_has_type_and_policy(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    kinds = {"": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "jpg": "image/jpeg"}
    assert answer.headers["content-type"].split(";")[0] == kinds[path.partition(".")[2]]
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
def test_unchanged_file_is_not_sent_again(client: httpx.Client, path: str) -> None:
    etag = client.get(path).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get(path).headers["cache-control"] == "no-cache"


def test_files_have_different_tags(client: httpx.Client) -> None:
    assert len({client.get(path).headers["etag"] for path in PATHS}) == len(PATHS)


@pytest.mark.parametrize("path", ["/", "/page/page.css"])
def test_head_of_page_has_headers_of_get(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "path", ["/page", "/page/", "/page/nothing.js", "/page/index.html", "/page/..%2fpage.py", "/page/%00", "/page/a/b"]
)
def test_other_files_are_answered_with_problem(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_page_can_be_switched_off(scripted: ScriptedRecognizer, serve: Serve) -> None:
    client = serve(scripted, page="off").client
    for path in ("/", "/page/page.js"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/docs").status_code == 200


def test_page_needs_no_key(scripted: ScriptedRecognizer, serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"tests:{API_KEY}")
    client = serve(scripted, api_keys_file=keys).client
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 200
    assert client.post("/recognize", json={"text": "hi"}).status_code == 401


def test_metrics_know_page_by_template(client: httpx.Client) -> None:
    for path in ("/", "/page/page.js", "/page/page.css", "/page/nothing.js"):
        client.get(path)
    metrics = client.get("/metrics").text
    assert 'route="/",status="200"' in metrics
    assert 'route="/page/{name}",status="200"' in metrics
    assert 'route="/page/{name}",status="404"' in metrics
    assert "page.js" not in metrics


def test_page_is_not_part_of_openapi(client: httpx.Client) -> None:
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path == "/" or "page" in path]


def test_page_refers_to_its_own_files(client: httpx.Client) -> None:
    """Relative addresses, so that it works behind a path prefix; every file that comes along is used."""
    found = References(client.get("/").text).found
    assert not [reference for reference in found if "://" in reference or reference.startswith("/")]
    assert [client.get(f"/{reference}").status_code for reference in found] == [200] * len(found)
    scripts = [client.get(f"/page/{name}").text for name in ASSETS if name.endswith(".js")]
    imported = {name for script in scripts for name in re.findall(r'from "\./([\w-]+\.js)"', script)}
    used = {reference.removeprefix("page/") for reference in found} | imported
    assert set(ASSETS) <= used


def test_scripts_never_write_markup() -> None:
    """A post is a stranger's text: only textContent shows it."""
    source = "".join((FOLDER / name).read_text("utf-8") for name in ASSETS if name.endswith(".js"))
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in source


def test_wheel_contains_every_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (pattern,) = project["tool"]["setuptools"]["package-data"]["service.http"]
    assert {path.name for path in FOLDER.parent.glob(pattern)} == set(FILES)


def test_photos_are_small() -> None:
    photos = list(FOLDER.glob("*.jpg"))
    assert len(photos) == 3
    assert all(photo.stat().st_size < 60_000 for photo in photos)
