"""Accessibility rules and widths, light and dark, in each state of the page."""

from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from service.http.page import FOLDER
from tests.service.http.page.conftest import ENTITIES, Open, answer_with, ask, refuse_with

SCHEMES = ["light", "dark"]
TYPES = ["PER", "LOC", "ORG", "MISC", "EVENT", "WORK", "FOOD", "DATE", "MORE"]


def violations(tab: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(tab).response["violations"]
    return [f"{fault['id']}: {[node['target'] for node in fault['nodes']]}" for fault in found]


def empty(tab: Page) -> None:
    expect(tab.locator("#snippet")).to_contain_text("curl")


def answered(tab: Page) -> None:
    """All colors of types, a photo with a veil, a chosen and a focused entity."""
    entities = [{**ENTITIES[0], "entity_group": kind, "start": i, "end": i + 1} for i, kind in enumerate(TYPES)]
    tab.get_by_label("Choose a photo").set_input_files(FOLDER / "rocket.jpg")
    answer_with(tab, entities, photo=True)
    ask(tab, "abcdefghi jkl")
    tab.locator("mark").first.focus()
    expect(tab.locator("#attention canvas")).to_be_visible()


def without_entities(tab: Page) -> None:
    answer_with(tab, [])
    ask(tab, "nothing\n" * 100)
    expect(tab.locator("#status")).to_contain_text("No entities")


def refused(tab: Page) -> None:
    refuse_with(tab, 401, "unauthorized", "the request has no API key", {"Retry-After": "3"})
    ask(tab)
    expect(tab.get_by_label("API key")).to_be_visible()
    expect(tab.get_by_role("button", name="Try again")).to_be_disabled()


def asking(tab: Page) -> None:
    tab.route("**/recognize?*", lambda _: None)  # never answered
    ask(tab, "x" * 1001)
    expect(tab.get_by_role("button", name="Cancel")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", [empty, answered, without_entities, refused, asking])
def test_axe_finds_no_violation(open_page: Open, state: Any, scheme: Literal["light", "dark"]) -> None:
    tab = open_page(color_scheme=scheme, reduced_motion="reduce")
    state(tab)
    assert violations(tab) == []


def test_axe_finds_a_planted_violation(tab: Page) -> None:
    tab.evaluate("document.querySelector('label[for=text]').remove()")
    assert any(fault.startswith("label:") for fault in violations(tab))


def test_dark_and_light_differ(open_page: Open) -> None:
    colors = [
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert len(set(colors)) == 2


@pytest.mark.parametrize("width", [320, 360, 800, 1600])
@pytest.mark.parametrize("state", [empty, answered, refused, asking])
def test_nothing_is_wider_than_the_screen(open_page: Open, state: Any, width: int) -> None:
    tab = open_page(viewport={"width": width, "height": 800})
    state(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_long_word_does_not_widen_the_page(open_page: Open) -> None:
    tab = open_page(viewport={"width": 360, "height": 800})
    answer_with(tab, [{**ENTITIES[0], "word": "x" * 500, "start": 0, "end": 500}], photo=True)
    ask(tab, "x" * 600)
    expect(tab.locator("mark")).to_have_count(1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_answer_comes_into_view_on_phones(open_page: Open) -> None:
    tab = open_page(viewport={"width": 360, "height": 640})
    answer_with(tab, ENTITIES)
    ask(tab)
    expect(tab.locator("#answer-heading")).to_be_in_viewport()


def test_whole_page_works_by_keyboard(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    tab.keyboard.press("Tab")
    for _ in range(30):
        if tab.evaluate("document.activeElement.id") == "text":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.type("hi")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "file"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator("mark")).to_have_count(2)
    for _ in range(10):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.tagName") == "MARK":
            break
    tab.keyboard.press("ArrowDown")
    expect(tab.locator("mark").nth(1)).to_be_focused()
