"""The README's JavaScript, as it stands there, in Node."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import Running

README = Path(__file__).parents[2] / "README.md"
TEXT = "Big news! 🎉\r\n\nNora 👩‍🚀 Lindqvist\nis in Oslo\n"


def run_in_node(script: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "--input-type=module", "-"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def javascript(running: Running) -> str:
    (code,) = re.findall(r"```js\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert "http://localhost:8000" in code
    return str(code).replace("http://localhost:8000", str(running.client.base_url).rstrip("/"))


def test_javascript_marks_words_of_multiline_posts(shared: Running, jpeg: bytes) -> None:
    """FormData turned each line feed into CRLF, and slices in UTF-16 units missed the words behind an emoji."""
    photo = f"new Blob([Uint8Array.from(atob({base64.b64encode(jpeg).decode()!r}), (c) => c.charCodeAt(0))])"
    ask = f"const sent = {json.dumps(TEXT)}; const found = await recognize(sent, {photo});"
    mark = "console.log(JSON.stringify(found.map((e) => [e.word, sent.slice(e.start, e.end)])));"
    marked = json.loads(run_in_node(f"{javascript(shared)}\n{ask}\n{mark}").splitlines()[-1])
    answer = shared.post(TEXT, jpeg).json()
    assert [word for word, _ in marked] == [entity["word"] for entity in answer["entities"]]
    assert any(entity["start"] > TEXT.index("🎉") for entity in answer["entities"])
    assert all(word == cut for word, cut in marked)


def test_javascript_reports_problems_in_words(shared: Running) -> None:
    ask = "try { await recognize(' '); } catch (error) { console.log(error.message); }"
    assert "the text has 1 characters, all white space" in run_in_node(f"{javascript(shared)}\n{ask}")
