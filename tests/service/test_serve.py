import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from model import Post
from service.serve import address_of, bind, load, main
from service.settings import Settings
from tests.service.conftest import ScriptedRecognizer, Serve, eventually, form

ROOT = Path(__file__).parents[2]


@contextmanager
def process(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client, list[str]]]:
    """A service in a process of its own, once it has announced itself: the process, a client, what it printed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "service.serve", "--port", "0", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        banner = [child.stdout.readline() for _ in range(5)]
        address = re.search(r"http://\S+", banner[0])
        assert address, child.communicate()
        with httpx.Client(base_url=address[0], timeout=20) as client:
            yield child, client, banner
    finally:
        child.kill()
        child.communicate()


def test_sigterm_under_load_answers_what_was_accepted_and_exits_0(tiny_checkpoint: Path, jpeg: bytes) -> None:
    with process("--checkpoint", str(tiny_checkpoint), "--model-threads", "1") as (child, client, banner):
        assert "tiny on cpu" in banner[0]
        assert "/docs" in banner[1]
        assert "curl http://127.0.0.1:" in banner[3]
        assert "--form-string 'text=" in banner[3]

        def ask(i: int) -> int | str:
            try:
                return client.post("/recognize", files=form(f"post {i}", jpeg)).status_code
            except httpx.TransportError as error:
                return type(error).__name__

        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(ask, range(200))
            assert next(answers) == 200
            child.send_signal(signal.SIGTERM)
            outcomes = list(answers)
        stderr = child.communicate(timeout=20)[1]
        assert child.returncode == 0
        # an accepted post has its answer; later ones are refused, or find nobody listening
        assert outcomes.count(200) > 0
        assert set(outcomes) <= {200, 503, "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
        logged = [json.loads(line) for line in stderr.splitlines()]
        served = [entry for entry in logged if entry.get("route") == "/recognize"]
        assert {entry["status"] for entry in served} <= {200, 503}
        assert sum(entry["status"] == 200 for entry in served) == outcomes.count(200) + 1
        assert {entry["level"] for entry in logged} == {"info"}


def test_a_dead_model_ends_the_server_so_that_its_supervisor_restarts_it(
    scripted: ScriptedRecognizer, serve: Serve
) -> None:
    running = serve(scripted)

    def die(_: Sequence[Post]) -> None:
        raise torch.AcceleratorError("the device is lost")

    scripted.before_run = die
    answer = running.post()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    eventually(lambda: not running.server.model_alive)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--checkpoint", "/nowhere"], "/nowhere"),
        (["--port", "99999"], "--port (SMNER_PORT)"),
        (["--prot", "1"], "--prot"),
        (["--device", "cuda:63"], "cuda:63"),
        (["--host", "256.0.0.1"], "256.0.0.1"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serve.configure_logs", lambda _: None)  # the process's, and this is not its own
    with pytest.raises(SystemExit) as exit_:
        main(["--port", "0", *arguments])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_a_changed_checkpoint_is_refused_by_the_files_name(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_checkpoint / "config.json").write_text("{}")
    with pytest.raises(SystemExit):
        load(Settings(checkpoint=tiny_checkpoint))
    assert "config.json" in capsys.readouterr().err


def test_a_batch_smaller_than_a_post_is_refused(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Settings(checkpoint=tiny_checkpoint, max_batch_tokens=100))
    assert "128 sub-tokens" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit):
            bind("127.0.0.1", port)
    assert f"127.0.0.1 port {port}" in capsys.readouterr().err


def test_the_address_printed_is_one_that_can_be_opened() -> None:
    with bind("0.0.0.0", 0) as listener:  # noqa: S104
        assert address_of(listener) == f"http://localhost:{listener.getsockname()[1]}"
