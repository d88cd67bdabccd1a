import io
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

from model import SMNER, Post
from service.log_writer import LogWriter
from service.serve import bind, listen, load, main
from service.settings import Settings
from tests.benchmarks.serving.posts import load_posts
from tests.service.conftest import Running, ScriptedRecognizer, eventually
from tests.service.crowd import ask, raw
from tests.service.process import ROOT, serving_process

CLIENTS = 64  # max_pending_posts


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """Restores the handler that main() replaces, since here the process is the tests'."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_at_full_load_answers_accepted_posts(served_checkpoint: Path) -> None:
    """An upload that has begun counts as accepted; later posts are refused."""
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
    assert not any("receive_seconds" in entry for entry in served if entry["status"] == 503)  # none was accepted
    assert {entry["level"] for entry in logged} == {"info"}


def test_sigterm_while_loading_ends_process_1(tiny_checkpoint: Path) -> None:
    """The kernel gives process 1 only signals with a handler: it went on loading, then served."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("cannot create a process namespace here")
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
            assert outer.stdout.read() == ""  # it never got to its banner
        finally:
            outer.kill()


def test_dead_model_ends_the_server(running: Running, scripted: ScriptedRecognizer) -> None:
    """Its supervisor restarts it."""

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
        (["--metrics-port", "70000"], "--metrics-port (SMNER_METRICS_PORT)"),
        (["--port", "9100", "--metrics-port", "9100"], "must be another port than --port, not '9100'"),
    ],
)
def test_usage_error_is_one_line_and_exit_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "service.serve.configure_logs", lambda _: LogWriter(io.StringIO())
    )  # would change the tests' logging
    with pytest.raises(SystemExit) as exit_:
        main(["--port", "0", *arguments])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_wrong_variable_for_traces_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serve.configure_logs", lambda _: LogWriter(io.StringIO()))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with pytest.raises(SystemExit, match="2"):
        main(["--port", "0"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-serve: traces (OTEL_… variables): max_export_batch_size must be less")


FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15 GiB of which 3 MiB is free."


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_full_device_is_one_line_and_exit_1(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Another process has its memory, when the network moves to it."""
    monkeypatch.setattr(SMNER, "to", lambda *_: raise_(error))
    with pytest.raises(SystemExit) as exit_:
        load(Settings(checkpoint=str(tiny_checkpoint), device="cpu"))
    assert exit_.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"smner-serve: device cpu: {str(error).splitlines()[0]}"


@pytest.mark.parametrize(
    ("error", "code"), [(torch.OutOfMemoryError(FULL), 1), (RuntimeError("The NVIDIA driver is too old"), 2)]
)
def test_first_cuda_call_decides_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """Memory may become free, so the supervisor should try again; a driver does not change by itself."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: raise_(error))
    with pytest.raises(SystemExit) as exit_:
        load(Settings(device="cuda"))
    assert exit_.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"smner-serve: device cuda: torch cannot compute on it here: {error}"


def test_defect_while_loading_keeps_its_traceback(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SMNER, "to", lambda *_: raise_(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        load(Settings(checkpoint=str(tiny_checkpoint), device="cpu"))


def test_changed_checkpoint_is_refused_with_file_name(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_checkpoint / "config.json").write_text("{}")
    with pytest.raises(SystemExit):
        load(Settings(checkpoint=str(tiny_checkpoint)))
    assert "config.json" in capsys.readouterr().err


def test_batch_smaller_than_a_post_is_refused(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Settings(checkpoint=str(tiny_checkpoint), max_batch_tokens=100))
    assert "must be at least 128" in capsys.readouterr().err


def test_taken_port_is_reported_before_loading(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit):
            bind("127.0.0.1", port)
    assert f"127.0.0.1 port {port}" in capsys.readouterr().err


def test_taken_metrics_port_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serve.configure_logs", lambda _: LogWriter(io.StringIO()))
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match="2"):
            main(["--port", "0", "--metrics-port", str(port)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"smner-serve: cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_port_taken_while_loading_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The second of two services that were started at once ran on without ever listening."""
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            listen(first)
            with pytest.raises(SystemExit, match="2"):
                listen(second)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"smner-serve: cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_malloc_is_tuned_before_loading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tuned: list[bool] = []
    monkeypatch.setattr("service.serve.tune_malloc", lambda: tuned.append(True))
    with pytest.raises(SystemExit):
        main(["--checkpoint", str(tmp_path), "--port", "0"])
    assert tuned == [True]
