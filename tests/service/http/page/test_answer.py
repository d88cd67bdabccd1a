"""The marked text, where an entity looked, and the table."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.conftest import Running
from tests.service.http.page.conftest import ENTITIES, TEXT, Open, answer_with, ask, choose

PIXEL = """(canvas, [x, y]) => {
  const copy = new OffscreenCanvas(1, 1).getContext("2d"); // Chromium warns of reading the same canvas often
  copy.drawImage(canvas, -x, -y);
  return Array.from(copy.getImageData(0, 0, 1, 1).data);
}"""


def pixel(tab: Page, row: float, column: float) -> list[int]:
    """The veil at a place of the photo, in cells."""
    canvas = tab.locator("#attention canvas")
    found: list[int] = canvas.evaluate(PIXEL, [int(column * 64), int(row * 64)])
    return found


def ask_with_photo(tab: Page, photo: bytes) -> None:
    choose(tab, photo)
    answer_with(tab, ENTITIES, photo=True)
    ask(tab)


def test_entities_are_marked_behind_an_emoji(tab: Page) -> None:
    """Offsets count code points, which are not JavaScript's UTF-16 units."""
    answer_with(tab, ENTITIES)
    ask(tab)
    marks = tab.locator("mark")
    expect(marks).to_have_text(["Kawhi LeonardPER 0.98", "TorontoLOC 0.90"])
    expect(marks.first).to_have_accessible_name("Kawhi Leonard PER 0.98")
    plain = tab.locator("#marked").evaluate("e => (e.querySelectorAll('.tag').forEach(t => t.remove()), e.textContent)")
    assert plain == TEXT


def test_real_answer_matches_the_api(tab: Page, shared: Running) -> None:
    text = "Big news! 👩‍🚀\n\nKawhi Leonard <b>meets</b> Toronto"
    entities = shared.post(text).json()["entities"]
    assert entities
    ask(tab, text)
    expect(tab.locator("#entities tbody tr")).to_have_count(len(entities))
    words = tab.locator("#entities tbody td:nth-child(2)").all_text_contents()
    assert words == [entity["word"] for entity in entities]
    marked = [mark.evaluate("m => m.firstChild.data") for mark in tab.locator("mark").all()]
    assert marked == words


def test_types_differ_in_color_and_label(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    expect(tab.locator("#legend")).to_contain_text("PER person")
    expect(tab.locator("mark")).to_have_count(2)
    colors = [mark.evaluate("m => getComputedStyle(m).borderBottomColor") for mark in tab.locator("mark").all()]
    assert len(set(colors)) == 2


def test_table_lists_type_word_offsets_score(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    rows = tab.locator("#entities tbody tr")
    expect(rows.nth(0).locator("td")).to_have_text(["PER", "Kawhi Leonard", "2–15", "0.9812"])
    expect(rows.nth(1).locator("td")).to_have_text(["LOC", "Toronto", "22–29", "0.9034"])


def test_click_and_arrow_keys_choose(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    marks = tab.locator("mark")
    first, second = marks.nth(0), marks.nth(1)
    expect(first).to_have_attribute("aria-pressed", "true")
    first.focus()
    for key, chosen in (("ArrowRight", second), ("ArrowRight", second), ("ArrowLeft", first), ("End", second)):
        tab.keyboard.press(key)
        expect(chosen).to_be_focused()
        expect(chosen).to_have_attribute("aria-pressed", "true")
    first.click()
    expect(second).to_have_attribute("aria-pressed", "false")
    tab.locator("#entities tbody tr").nth(1).click()
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("tr[aria-current=true]")).to_contain_text("Toronto")
    expect(tab.locator("#scores dd").nth(1)).to_have_text("0.9034")


def test_only_the_chosen_entity_stops_tab(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    expect(tab.locator("mark[tabindex='0']")).to_have_text("Kawhi LeonardPER 0.98")
    expect(tab.locator("mark[tabindex='-1']")).to_have_count(1)


def test_screen_readers_hear_the_result(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    expect(tab.get_by_role("status").filter(has_text="2 entities in")).to_contain_text("found by scripted")
    expect(tab.locator("#explanation")).to_have_attribute("aria-live", "polite")


def test_right_to_left_text_is_laid_out_so(tab: Page) -> None:
    text = "ליאו מסי נסע לפריז"
    entities = [{**ENTITIES[0], "word": text[:8], "start": 0, "end": 8}, {**ENTITIES[1], "start": 13, "end": 18}]
    answer_with(tab, entities)
    ask(tab, text)
    marks = tab.locator("mark")
    expect(marks).to_have_count(2)
    first, second = marks.all()
    boxes: list[Any] = [mark.bounding_box() for mark in (first, second)]
    assert boxes[0]["x"] > boxes[1]["x"]
    first.focus()
    tab.keyboard.press("ArrowLeft")  # the next one is on the left
    expect(second).to_be_focused()


def test_post_without_photo_says_so(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    ask(tab)
    expect(tab.locator("#explanation")).to_contain_text("This post has no photo")
    expect(tab.locator("#attention")).to_be_hidden()


def test_text_without_entities_says_so(tab: Page, jpeg: bytes) -> None:
    answer_with(tab, [])
    ask(tab, "nothing here")
    expect(tab.locator("#status")).to_contain_text("No entities in")
    expect(tab.locator("#marked")).to_have_text("nothing here")
    expect(tab.locator("#entities")).to_be_hidden()


def test_veil_is_yellow_where_entity_looked(tab: Page, jpeg: bytes) -> None:
    ask_with_photo(tab, jpeg)
    expect(tab.locator("#attention canvas")).to_be_visible()
    tab.get_by_label("By cell").check()
    yellow, dark = pixel(tab, 2.5, 3.5), pixel(tab, 6.5, 6.5)
    assert yellow[0] > 240
    assert dark[0] < 20
    assert pixel(tab, 2.1, 3.1) == yellow
    assert pixel(tab, 2.5, 2.9) == dark
    tab.get_by_label("Smooth").check()
    assert pixel(tab, 2.5, 3.5)[0] > pixel(tab, 2.5, 3.0)[0] > pixel(tab, 2.5, 2.5)[0]
    tab.get_by_label("Off", exact=True).check()
    expect(tab.locator("#attention canvas")).to_be_hidden()


def test_veil_covers_exactly_the_photo(tab: Page, jpeg: bytes) -> None:
    ask_with_photo(tab, jpeg)
    canvas = tab.locator("#attention canvas")
    expect(canvas).to_be_visible()
    assert canvas.bounding_box() == tab.locator("#attention img").bounding_box()


def test_legend_says_the_share_of_whole_photo(tab: Page, jpeg: bytes) -> None:
    ask_with_photo(tab, jpeg)
    expect(tab.locator("#explanation")).to_contain_text("gave 30.0 % of its attention to the photo as a whole")
    expect(tab.locator("#least")).to_have_text("1.0 %")
    expect(tab.locator("#most")).to_have_text("22.0 %")
    name = "Of 7 by 7 regions, Kawhi Leonard looked most at row 3, column 4: 22.0 %"
    expect(tab.locator("#attention canvas")).to_have_accessible_name(name)


def test_attention_of_the_real_network_is_shown(tab: Page, jpeg: bytes) -> None:
    choose(tab, jpeg)
    ask(tab)
    expect(tab.locator("#attention canvas")).to_be_visible()
    expect(tab.locator("#explanation")).to_contain_text("of its attention to the photo as a whole")


def test_row_of_chosen_entity_is_in_view(tab: Page) -> None:
    answer_with(tab, [{**ENTITIES[0], "word": "x", "start": 2 * i, "end": 2 * i + 1} for i in range(100)])
    ask(tab, "x " * 100)
    expect(tab.locator("mark")).to_have_count(100)
    tab.locator("mark").first.focus()
    tab.keyboard.press("End")
    expect(tab.locator("tr[aria-current=true]")).to_contain_text("198–199")
    row, box = tab.locator("tr[aria-current=true]").bounding_box(), tab.locator("#rows").bounding_box()
    assert row
    assert box
    assert box["y"] <= row["y"] <= box["y"] + box["height"] - row["height"]


@pytest.mark.slow
def test_long_post_is_typed_without_lag(open_page: Open) -> None:
    tab = open_page()
    text = "Leonard is in Toronto. " * 435
    entities = [{**ENTITIES[0], "word": "Leonard", "start": 23 * i, "end": 23 * i + 7} for i in range(435)]
    answer_with(tab, entities)
    ask(tab, text)
    expect(tab.locator("mark")).to_have_count(435)
    # each key until the next frame is painted
    milliseconds = tab.evaluate(
        """async () => {
          document.getElementById("text").focus();
          const began = performance.now();
          for (let i = 0; i < 20; i++) {
            document.execCommand("insertText", false, "x");
            await new Promise(requestAnimationFrame);
          }
          return (performance.now() - began) / 20;
        }"""
    )
    assert milliseconds < 100
