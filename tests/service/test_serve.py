import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from model import Post
from service.serve import address_of, bind, load, main
from service.settings import Settings
from tests.benchmarks.serving.posts import load_posts
from tests.service.conftest import ScriptedRecognizer, Serve, eventually
from tests.service.crowd import ask, raw
from tests.service.process import ROOT, serving_process

CLIENTS = 64  # as many as are taken on at once


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """main() decides what SIGTERM does to its process, and here that is the tests'."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_at_full_load_answers_all_that_was_accepted_and_exits_0(served_checkpoint: Path) -> None:
    """An upload that has only begun is accepted, too: it is waited for, while everybody later is refused."""
    posts = load_posts(20, Path("nowhere")).posts
    request = raw(posts[0])
    with serving_process("--checkpoint", str(served_checkpoint)) as server, ThreadPoolExecutor(1) as pool:
        assert "tiny on cpu" in server.banner[0]
        assert "/docs" in server.banner[1]
        assert "curl http://127.0.0.1:" in server.banner[3]
        assert "--form-string 'text=" in server.banner[3]
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
            slow.sendall(request[:1000])
            load = pool.submit(ask, server.port, posts * 50, clients=CLIENTS)
            eventually(lambda: server.metric('smner_posts_total{image="used"}') > 2 * CLIENTS)
            server.child.send_signal(signal.SIGTERM)
            seen = load.result()
            assert server.child.poll() is None
            slow.sendall(request[1000:])
            assert b" 200 OK" in slow.recv(4096)
        assert server.child.wait(20) == 0
        logged = server.log()
    assert seen.outcomes["200"] > 2 * CLIENTS
    assert seen.outcomes["503 not_ready"] > 0
    assert set(seen.outcomes) <= {"200", "503 overloaded", "503 not_ready"}
    served = [entry for entry in logged if entry.get("route") == "/recognize"]
    assert sum(entry["status"] == 200 for entry in served) == seen.outcomes["200"] + 1
    assert not any("receive_seconds" in entry for entry in served if entry["status"] == 503)  # none was taken on
    assert {entry["level"] for entry in logged} == {"info"}


def test_sigterm_while_loading_ends_a_containers_first_process_at_once(tiny_checkpoint: Path) -> None:
    """The kernel gives process 1 no signal without a handler: it loaded on, and served whom nobody would ask."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no process namespace can be made here")
    command = [*unshare, sys.executable, "-m", "service.serve", "--port", "0", "--checkpoint", str(tiny_checkpoint)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as outer:
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            eventually(lambda: children.read_text() != "")
            first = int(children.read_text())
            eventually(lambda: "libtorch" in Path(f"/proc/{first}/maps").read_text(), seconds=120)
            os.kill(first, signal.SIGTERM)
            assert outer.wait(60) == 0
            assert outer.stdout is not None
            assert outer.stdout.read() == ""  # it never came to its banner
        finally:
            outer.kill()


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


def test_freed_memory_is_kept_from_before_the_checkpoint_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("service.serve.keep_freed_memory", lambda: kept.append(True))
    with pytest.raises(SystemExit):
        main(["--checkpoint", str(tmp_path), "--port", "0"])
    assert kept == [True]
