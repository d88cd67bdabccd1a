"""The photo of the post: chosen, dropped, pasted, shown, removed."""

import base64
from typing import Any

from playwright.sync_api import JSHandle, Page, expect

from service.http.page import FOLDER
from tests.service.http.page.conftest import answer_with, ask, choose

FILES = """(files) => {
  const transfer = new DataTransfer();
  for (const { name, type, content } of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  return transfer;
}"""
PASTE = """(transfer) => {
  const paste = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  return document.getElementById("text").dispatchEvent(paste);
}"""
COPY_PICTURE = """async () => {
  const canvas = new OffscreenCanvas(8, 8);
  canvas.getContext("2d").fillRect(0, 0, 8, 8);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""
COFFEE = (FOLDER / "coffee.jpg").read_bytes()


def carrying(tab: Page, *names: str, content: bytes = COFFEE, kind: str = "image/jpeg") -> JSHandle:
    files = [{"name": name, "type": kind, "content": base64.b64encode(content).decode()} for name in names]
    return tab.evaluate_handle(FILES, files)


def drop(tab: Page, selector: str, files: JSHandle) -> None:
    tab.dispatch_event(selector, "drop", {"dataTransfer": files})


def sent(tab: Page) -> dict[str, Any]:
    """The body of the next post."""
    answer_with(tab, [])
    with tab.expect_request("**/recognize?*") as request:
        ask(tab, "hi")
    body = request.value.post_data_json
    assert isinstance(body, dict)
    return body


def expect_photo(tab: Page, name: str) -> None:
    expect(tab.locator(".chosen-photo img")).to_be_visible()
    expect(tab.locator("#photo-note")).to_contain_text(f"{name}, 46 KiB.")


def test_chosen_photo_is_shown_and_sent(tab: Page) -> None:
    tab.get_by_label("Choose a photo").set_input_files(FOLDER / "coffee.jpg")
    expect_photo(tab, "coffee.jpg")
    assert base64.b64decode(sent(tab)["image"]) == COFFEE


def test_photo_is_dropped_anywhere(tab: Page) -> None:
    """Beside the field, a browser would leave the page and show the photo."""
    for selector in (".zone", "h1"):
        drop(tab, selector, carrying(tab, f"dropped-{selector[1:]}.jpg"))
        expect_photo(tab, f"dropped-{selector[1:]}.jpg")
    assert base64.b64decode(sent(tab)["image"]) == COFFEE


def test_second_dropped_photo_is_left_out(tab: Page) -> None:
    drop(tab, ".zone", carrying(tab, "one.jpg", "two.jpg"))
    expect(tab.locator("#photo-note")).to_contain_text("A post has one photo; the other 1 are left out.")
    expect_photo(tab, "one.jpg")


def test_photo_is_pasted_from_the_clipboard(tab: Page) -> None:
    tab.evaluate(COPY_PICTURE)
    tab.locator("#text").focus()
    tab.keyboard.press("Control+V")
    expect(tab.locator(".chosen-photo img")).to_be_visible()
    assert base64.b64decode(sent(tab)["image"]).startswith(b"\x89PNG")


def test_pasted_words_stay_words(tab: Page) -> None:
    """Office programs put a picture of the words beside them."""
    files = carrying(tab, "words.jpg")
    files.evaluate("transfer => transfer.setData('text/plain', 'words')")
    assert tab.evaluate(PASTE, files) is True  # not prevented
    expect(tab.locator(".chosen-photo")).to_be_hidden()


def test_removed_photo_is_not_sent(tab: Page) -> None:
    tab.get_by_label("Choose a photo").set_input_files(FOLDER / "coffee.jpg")
    tab.get_by_role("button", name="Remove photo").click()
    expect(tab.locator(".chosen-photo")).to_be_hidden()
    expect(tab.locator("#file")).to_be_focused()
    assert sent(tab) == {"text": "hi"}
    tab.get_by_label("Choose a photo").set_input_files(FOLDER / "coffee.jpg")  # the same one again
    expect_photo(tab, "coffee.jpg")


def test_file_that_is_no_photo_is_named(tab: Page) -> None:
    drop(tab, ".zone", carrying(tab, "letter.pdf", content=b"%PDF-1.7", kind="application/pdf"))
    expect(tab.locator("#photo-note")).to_contain_text("letter.pdf: your browser cannot show this file.")
    ask(tab, "hi")
    expect(tab.get_by_role("alert")).to_contain_text("The service cannot read photos of this kind.")


def test_file_above_the_limit_is_not_uploaded(tab: Page) -> None:
    """A browser that is still uploading loses the answer."""
    asked = []
    tab.on("request", lambda request: asked.append(request.url) if "/recognize" in request.url else None)
    choose(tab, bytes(200_001))
    ask(tab, "hi")
    expect(tab.get_by_role("alert")).to_contain_text("The photo is too large.")
    expect(tab.get_by_role("alert")).to_contain_text(
        "The photo has 0.2 MiB (200,001 bytes); the limit is 0.2 MiB (200,000 bytes)."
    )
    assert asked == []


def test_answer_keeps_the_photo_it_was_sent_with(tab: Page) -> None:
    tab.get_by_label("Choose a photo").set_input_files(FOLDER / "coffee.jpg")
    sent(tab)
    expect(tab.locator("#attention img")).to_be_visible()
    tab.get_by_role("button", name="Remove photo").click()
    assert tab.locator("#attention img").evaluate("image => image.complete && image.naturalWidth") == 600
