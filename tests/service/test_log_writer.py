import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from service.log_writer import LogWriter
from service.serve import bind
from tests.service.conftest import eventually
from tests.service.process import ROOT


class Stuck(io.StringIO):
    """A stream that nobody reads until the test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.let_go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.writing.set()
        assert self.let_go.wait(20)
        return super().write(text)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stream = Stuck()
    yield stream
    stream.let_go.set()


def test_lines_are_written_in_their_order() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    for number in range(1000):
        writer.write(f"{number}\n")
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(1000)]


def test_blocked_stream_delays_no_line(stuck: Stuck) -> None:
    writer = LogWriter(stuck, max_lines=2)
    counted: list[int] = []
    writer.write("being written\n")
    assert stuck.writing.wait(10)
    for line in ("waits\n", "waits, too\n", "dropped before counting\n"):
        writer.write(line)
    writer.on_drop(counted.append)
    writer.write("dropped\n")
    assert counted == [1, 1]
    stuck.let_go.set()
    writer.close()
    assert stuck.getvalue() == "being written\nwaits\nwaits, too\n"


def test_dropped_lines_are_told_afterwards(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, int]] = []
    monkeypatch.setattr("service.log_writer.log.warning", lambda _, **lines: told.append(lines))
    writer = LogWriter(stuck, max_lines=1)
    writer.write("being written\n")
    assert stuck.writing.wait(10)
    for _ in range(4):
        writer.write("a line\n")
    stuck.let_go.set()
    eventually(lambda: told != [])
    assert told == [{"lines": 3}]


def test_closing_gives_up_on_a_blocked_stream(stuck: Stuck) -> None:
    writer = LogWriter(stuck)
    writer.write("a line\n")
    started = time.monotonic()
    writer.close(0.1)
    assert time.monotonic() - started < 5


def test_reader_that_left_is_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    counted: list[int] = []
    with os.fdopen(writing, "w") as stream:
        writer = LogWriter(stream)
        writer.on_drop(counted.append)
        writer.write("a line\n")
        writer.write("another\n")
        eventually(lambda: len(counted) >= 3)
        writer.close()
        assert counted == [0, 1, 1]  # not for ever, with a line about each lost line
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what the stream still has


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The end to write to; nothing fits into it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


def test_full_pipe_does_not_stop_the_service(served_checkpoint: Path, full_pipe: int) -> None:
    """Each request logs a line, and the first that did not fit once waited forever, and with it every request."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    options = ["--port", str(port), "--checkpoint", str(served_checkpoint), "--model-threads", "1"]
    command = [sys.executable, "-m", "service.serve", *options]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=full_pipe, stderr=full_pipe) as child,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        try:
            eventually(lambda: is_ready(client), seconds=120)
            assert [client.get("/info").status_code for _ in range(300)] == [200] * 300
            answer = client.post("/recognize", json={"text": "Kawhi Leonard"})
            assert answer.status_code == 200
            assert "\nsmner_log_lines_dropped_total 0" in client.get("/metrics").text
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
        finally:
            child.kill()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
