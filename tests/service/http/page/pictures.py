"""Make the pictures of the page in docs/: ``python -m tests.service.http.page.pictures``."""

import io
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from tests.service.http.page.conftest import chromium_path
from tests.service.process import ROOT, serving_process


def picture(browser: Browser, address: str, scheme: Literal["light", "dark"]) -> Image.Image:
    """The first example, answered by the embedded checkpoint."""
    tab = browser.new_page(viewport={"width": 1200, "height": 985}, color_scheme=scheme)
    tab.goto(address)
    tab.locator(".example").first.click()
    expect(tab.locator("#status")).to_contain_text("found by")
    tab.locator("mark").nth(2).click()
    tab.mouse.move(0, 0)
    return Image.open(io.BytesIO(tab.screenshot()))


def main() -> None:
    path = chromium_path()
    assert path, "Chromium is not installed"
    with serving_process() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        for scheme in ("light", "dark"):
            made = picture(browser, server.address, scheme)
            made.save(ROOT / "docs" / f"page-{scheme}.webp", quality=75, method=6)
        browser.close()


if __name__ == "__main__":
    main()
