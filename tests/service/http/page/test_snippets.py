"""The request as curl, Python and JavaScript: what is copied runs, and sends the very post."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from service.http.page import FOLDER
from tests.deploy.conftest import system_command
from tests.service.conftest import API_KEY, Running, ScriptedRecognizer, Serve
from tests.service.http.page.conftest import Open

TEXTS = [
    "Kawhi Leonard is in Toronto",
    """It's "Kawhi" \\ Leonard's 'Toronto' \\n \\""",
    "two\nlines\n\n\tand a tab\n",
    "$HOME `id` $(id) !! %s {} * ; & | < > #",
    "🎉 👩‍🚀 ليونيل ميسي naïve 日本",
    "\u202eturned\u202c \u2028 \u2066x\u2069 \x7f \xa0",
    "@photo.jpg",
    "-F text=<photo.jpg;type=text/html",
    "</script><b>\x01\x1b[31m",
]
NAMES = ["photo.jpg", """it's a "photo", so; \\ there.jpg""", "-o 日本.jpg"]
LANGUAGES = ["curl", "python", "javascript"]
LABELS = {"curl": "As curl", "python": "As Python", "javascript": "As JavaScript"}
JPEG = (FOLDER / "coffee.jpg").read_bytes()

MAKE = """
const { snippet } = await import("data:text/javascript;base64,SOURCE");
for (const [language, post, url, hasKey] of CASES) console.log(JSON.stringify(snippet(language, post, url, hasKey)));
"""


def programs(*cases: tuple[str, dict[str, str], str, bool]) -> list[str]:
    """The snippets of these cases, made by the page's own script in Node."""
    source = base64.b64encode((FOLDER / "snippets.js").read_bytes()).decode()
    script = MAKE.replace("SOURCE", source).replace("CASES", json.dumps(cases))
    done = subprocess.run(
        [system_command("node"), "--input-type=module", "-"], input=script, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]  # splitlines cuts at U+2028, too


def execute(language: str, program: str, folder: Path) -> str:
    command = {
        "curl": [system_command("bash"), "-c", program],
        "python": [sys.executable, "-c", program],
        "javascript": [system_command("node"), "--input-type=module", "-"],
    }[language]
    env = {**os.environ, "SMNER_API_KEY": API_KEY, "no_proxy": "*"}
    stdin = program if language == "javascript" else ""
    done = subprocess.run(
        command, input=stdin, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{program}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def received(scripted: ScriptedRecognizer) -> list[tuple[str, Any]]:
    """What arrives at the model."""
    posts: list[tuple[str, Any]] = []
    scripted.before_prepare = lambda text, image: posts.append((text, image))
    return posts


@pytest.fixture
def service(scripted: ScriptedRecognizer, received: object, serve: Serve, tmp_path: Path) -> Running:
    keys = tmp_path / "keys"
    keys.write_text(f"tests:{API_KEY}")
    return serve(scripted, api_keys_file=keys, image_cache_mb=0)


def url_of(service: Running) -> str:
    return f"{str(service.client.base_url).rstrip('/')}/recognize?explain=true"


def run_programs(language: str, service: Running, folder: Path, posts: Iterable[tuple[str, str]]) -> None:
    """Make and run the programs for posts, each a text and the name of its photo."""
    made = programs(*((language, {"text": t, "photo": n, "source": ""}, url_of(service), True) for t, n in posts))
    for program in made:
        execute(language, program, folder)


@pytest.mark.parametrize("language", LANGUAGES)
def test_program_sends_the_very_text(
    service: Running, received: list[tuple[str, Any]], language: str, tmp_path: Path
) -> None:
    texts = [*TEXTS, "nul \x00 in it"]
    received.clear()
    run_programs(language, service, tmp_path, [(text, "") for text in texts])
    assert received == [(text, None) for text in texts]


@pytest.mark.parametrize("language", LANGUAGES)
def test_program_sends_text_and_photo(
    service: Running, received: list[tuple[str, Any]], language: str, tmp_path: Path
) -> None:
    posts = [(text, NAMES[i % len(NAMES)]) for i, text in enumerate(TEXTS)]
    for name in NAMES:
        (tmp_path / name).write_bytes(JPEG)
    received.clear()
    run_programs(language, service, tmp_path, posts)
    assert received == [(text, JPEG) for text in TEXTS]


@pytest.mark.parametrize("language", LANGUAGES)
def test_program_of_an_example_fetches_its_photo(
    service: Running, received: list[tuple[str, Any]], language: str, tmp_path: Path
) -> None:
    source = str(service.client.base_url.join("/page/coffee.jpg"))
    received.clear()
    (program,) = programs((language, {"text": "x", "photo": "coffee.jpg", "source": source}, url_of(service), True))
    execute(language, program, tmp_path)
    assert received == [("x", JPEG)]


def test_literals_show_what_turns_lines() -> None:
    """Text of both directions would be read in another order than it is sent."""
    post = {"text": "\u202ex\u2066", "photo": "", "source": ""}
    made = programs(*((language, post, "http://localhost/", False) for language in LANGUAGES))
    assert all("\\u202ex\\u2066" in program for program in made)


@pytest.mark.parametrize("language", LANGUAGES)
def test_copied_program_gives_the_same_answer(
    shared: Running, tab: Page, language: str, jpeg: bytes, tmp_path: Path
) -> None:
    text = 'It\'s "Kawhi"\nLeonard 🎉'
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    tab.get_by_label("Text", exact=True).fill(text)
    tab.locator("#file").set_input_files(tmp_path / "photo.jpg")
    tab.get_by_text(LABELS[language], exact=True).click()
    tab.get_by_role("button", name="Copy").click()
    expect(tab.locator("#copied")).to_have_text("Copied.")
    program = tab.evaluate("navigator.clipboard.readText()")
    assert program == tab.locator("#snippet").text_content()
    expect(tab.locator("#snippet-note")).to_have_text("Run it in the folder that has photo.jpg. ")
    output = execute(language, program, tmp_path)
    entities = shared.client.post("/recognize?explain=true", json={"text": text, "image": encoded(jpeg)}).json()
    if language == "curl":
        assert json.loads(output)["entities"] == entities["entities"]
    else:
        rows = [line for line in output.splitlines() if line]
        assert len(rows) >= len(entities["entities"]) > 0
        assert all(entity["word"] in output for entity in entities["entities"])


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_program_follows_the_form(tab: Page) -> None:
    snippet = tab.locator("#snippet")
    tab.locator("#text").fill("first")
    expect(snippet).to_contain_text('{"text": "first"}')
    tab.locator("#text").fill("second")
    expect(snippet).to_contain_text('{"text": "second"}')
    tab.locator(".example").first.click()
    expect(snippet).to_contain_text("/page/astronaut.jpg")


def test_key_is_not_part_of_the_program(open_page: Open) -> None:
    tab = open_page()
    tab.evaluate("sessionStorage.setItem('smner-api-key', 'secret')")
    tab.reload()
    for label in LABELS.values():
        tab.get_by_text(label, exact=True).click()
        expect(tab.locator("#snippet")).to_contain_text("SMNER_API_KEY")
        expect(tab.locator("#snippet")).not_to_contain_text("secret")
    expect(tab.locator("#snippet-note")).to_contain_text("SMNER_API_KEY")


def test_copying_works_without_a_clipboard(open_page: Open) -> None:
    """Browsers have none for pages that came over plain HTTP from another machine."""
    tab = open_page()
    tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    tab.locator("#text").fill("without a clipboard")
    tab.get_by_role("button", name="Copy").click()
    expect(tab.locator("#copied")).to_have_text("Copied.")
    tab.locator("#text").fill("")
    tab.locator("#text").focus()
    tab.keyboard.press("Control+V")
    expect(tab.locator("#text")).to_have_value(
        """curl 'URL' --json '{"text": "without a clipboard"}'""".replace("URL", tab.url + "recognize?explain=true")
    )
