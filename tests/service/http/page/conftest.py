"""Chromium on the page; skipped where no Chromium is installed."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Page, Route, sync_playwright

from tests.service.conftest import Running

Open = Callable[..., Page]

TEXT = "🎉 Kawhi Leonard is\nin Toronto"
GRID = [[0.01] * 7 for _ in range(7)]
GRID[2][3] = 0.22  # the sum of all is 0.7
ENTITIES = [
    {
        "entity_group": "PER",
        "word": "Kawhi Leonard",
        "start": 2,
        "end": 15,
        "score": 0.9812,
        "scores": {"PER": 0.9812, "LOC": 0.01, "ORG": 0.004, "MISC": 0.002},
    },
    {
        "entity_group": "LOC",
        "word": "Toronto",
        "start": 22,
        "end": 29,
        "score": 0.9034,
        "scores": {"PER": 0.02, "LOC": 0.9034, "ORG": 0.05, "MISC": 0.01},
    },
]


def chromium_path() -> str | None:
    """Where the system has its Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Stopped with the module, since Playwright keeps an event loop in this thread until then."""
    path = chromium_path()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path) as chromium:
        yield chromium


@pytest.fixture
def open_page(browser: Browser, shared: Running) -> Iterator[Open]:
    """Opens the page of a server; afterwards, no script has failed and no other origin was asked."""
    errors: list[str] = []
    origins: set[str] = set()
    contexts = []

    def open_page(running: Running = shared, **options: Any) -> Page:
        address = str(running.client.base_url).rstrip("/")
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        contexts.append((context, address))
        context.set_default_timeout(10_000)
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
        tab.on("request", lambda request: origins.add(request.url))
        tab.goto(f"{address}/")
        return tab

    yield open_page
    addresses = [address for context, address in contexts]
    for context, _ in contexts:
        context.close()
    assert errors == []
    assert [url for url in origins if urlsplit(url).scheme == "http" and not url.startswith(tuple(addresses))] == []
    assert {urlsplit(url).scheme for url in origins} <= {"http", "blob", "data"}


def is_error(message: Any) -> bool:
    """Whether a console message is a fault; the browser itself logs every answer with an error's status."""
    return message.type in ("error", "warning") and not message.text.startswith("Failed to load resource")


@pytest.fixture
def tab(open_page: Open) -> Page:
    """The page of the server that all tests share."""
    return open_page()


def answer_with(tab: Page, entities: list[dict[str, Any]], *, photo: bool = False) -> None:
    """Answer every post of this tab alike, without the server."""
    attention = {"attention": {"global": 0.3, "regions": GRID}} if photo else {}
    answer = {
        "entities": [{**entity, **attention} for entity in entities],
        "image_used": photo,
        "model": {"name": "scripted", "revision": "r1"},
        "request_id": "abc",
    }
    tab.route("**/recognize?*", lambda route: route.fulfill(json=answer))


def refuse_with(tab: Page, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
    """Answer every post of this tab with a problem."""
    problem = {"type": f"urn:smner:problem:{code}", "title": "?", "status": status, "detail": detail, "code": code}
    document = {**problem, "request_id": "abc"}

    def refuse(route: Route) -> None:
        route.fulfill(status=status, json=document, headers=headers or {}, content_type="application/problem+json")

    tab.route("**/recognize?*", refuse)


def choose(tab: Page, photo: bytes) -> None:
    """Choose a photo as a person does."""
    tab.get_by_label("Choose a photo").set_input_files(
        FilePayload(name="photo.jpg", mimeType="image/jpeg", buffer=photo)
    )


def ask(tab: Page, text: str = TEXT) -> None:
    """Send a post as a person does."""
    tab.get_by_label("Text", exact=True).fill(text)
    tab.get_by_role("button", name="Find entities").click()
