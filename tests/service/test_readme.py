"""The README's clients, as they stand there: curl, Python, and JavaScript in Node."""

import base64
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


def code_blocks(language: str, *, of: str) -> list[str]:
    """The README's blocks in a language that have ``of`` in them."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if of in block]


def address(running: Running) -> str:
    return str(running.client.base_url).rstrip("/")


def javascript(running: Running) -> str:
    (code,) = code_blocks("js", of="http://localhost:8000")
    return code.replace("http://localhost:8000", address(running))


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


def curl_commands() -> list[str]:
    """Each with its continuation lines, but without its comment."""
    blocks = "".join(code_blocks("sh", of="curl "))
    return re.findall(r"^curl (?:.*\\\n)*.*$", blocks, re.MULTILINE)


def test_the_readme_shows_posts_photos_and_batches() -> None:
    commands = "\n".join(curl_commands())
    assert all(part in commands for part in ("-F 'text=", "-F image=@", "/recognize --json", "/recognize/batch --json"))


@pytest.mark.parametrize("command", curl_commands())
def test_each_curl_command_is_answered(shared: Running, command: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    asked = command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    asked = asked.replace("localhost:8000", address(shared))
    done = subprocess.run(["bash", "-c", asked], cwd=README.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer.get("image_used", False) == ("-F image" in command)
    assert all("entities" in post for post in answer.get("results", [answer]))


def python_client(url: str) -> Any:
    """The function that the README's Python defines; the code has asked the service at ``url`` once already."""
    (code,) = code_blocks("python", of="import httpx")
    names: dict[str, Any] = {}
    exec(code.replace("http://localhost:8000", url), names)  # noqa: S102 - our own README
    return names["recognize"]


def test_python_finds_what_the_service_answers(
    shared: Running, jpeg: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    recognize = python_client(address(shared))
    assert recognize(TEXT, jpeg) == shared.post(TEXT, jpeg).json()["entities"]
    assert recognize(TEXT) == shared.post(TEXT).json()["entities"]
    printed = capsys.readouterr().out.splitlines()  # and what the service logs
    found = shared.post("Nora Lindqvist is in Oslo").json()["entities"]
    assert [line for line in printed if " [info " not in line] == [
        f"{entity['entity_group']} {entity['word']} {entity['score']}" for entity in found
    ]


def test_python_reports_problems_in_words(shared: Running) -> None:
    recognize = python_client(address(shared))
    with pytest.raises(RuntimeError, match="1 characters, all white space"):
        recognize(" ")


class Busy(BaseHTTPRequestHandler):
    """Answers 503 as often as the test says, then the post."""

    refusals = 0
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        refused = type(self).refusals > 0
        type(self).refusals -= refused
        body = json.dumps({"detail": "the queue is full"} if refused else {"entities": []}).encode()
        self.send_response(503 if refused else 200)
        if refused:
            self.send_header("Retry-After", "3")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.refusals = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_python_waits_as_retry_after_says(busy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recognize, waits = python_client(busy), list[float]()
    monkeypatch.setattr("time.sleep", waits.append)
    Busy.refusals = 2
    assert recognize("Oslo") == []
    assert len(waits) == 2
    assert all(3 <= wait <= 6 for wait in waits)


def test_python_gives_up_with_the_services_words(busy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recognize, waits = python_client(busy), list[float]()
    monkeypatch.setattr("time.sleep", waits.append)
    Busy.refusals, Busy.asked = 99, 0
    with pytest.raises(RuntimeError, match="the queue is full"):
        recognize("Oslo", attempts=3)
    assert (Busy.asked, len(waits)) == (3, 2)
