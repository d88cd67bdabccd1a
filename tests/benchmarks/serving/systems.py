"""The servers that are compared, each a process on a free port of this machine."""

import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[3]
_START_SECONDS = 180.0
_STOP_SECONDS = 40.0
_SHOWN_BYTES = 4000  # of a failed server's log


@dataclass(frozen=True, slots=True)
class System:
    """A server: its name in the table, its module and flags, and the path that answers 200 when it is ready."""

    name: str
    module: str
    arguments: tuple[str, ...]
    ready_path: str
    needs: str | None = None  # a package that is not installed by default

    @property
    def missing(self) -> bool:
        """Whether the package it needs is not installed."""
        return self.needs is not None and find_spec(self.needs) is None


def smner(checkpoint: Path, device: str, *, cache_mb: int) -> System:
    """The service itself."""
    arguments = ("--checkpoint", str(checkpoint), "--device", device, "--image-cache-mb", str(cache_mb))
    return System("smner-serve", "service.serve", arguments, "/health/ready")


def peers(checkpoint: Path, device: str, threads: int) -> list[System]:
    """Other ways to serve the same checkpoint."""
    arguments = ("--checkpoint", str(checkpoint), "--device", device, "--threads", str(threads))
    package = "tests.benchmarks.serving.peers"
    return [
        System("FastAPI, one at a time", f"{package}.one_at_a_time", arguments, "/health"),
        System("LitServe, batching", f"{package}.litserve_batching", arguments, "/health", needs="litserve"),
    ]


class Server(NamedTuple):
    """A running server."""

    port: int
    process: int

    def event_loop_seconds(self) -> float:
        """Processor time of its first thread, which has the event loop; NaN where there is no proc(5)."""
        clock = Path(f"/proc/{self.process}/task/{self.process}/schedstat")
        return int(clock.read_text("utf-8").split()[0]) / 1e9 if clock.is_file() else math.nan


@contextmanager
def running(system: System) -> Iterator[Server]:
    """Start a server, yield it when it is ready, and stop it with all its processes."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", system.module, "--port", str(port), *system.arguments],
            cwd=_ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_ready(system, process, port)
            yield Server(port, process.pid)
        except BaseException:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _SHOWN_BYTES))
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            _stop(process)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(system: System, process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"{system.name} exited with {process.returncode} before it was ready")
        with suppress(OSError, http.client.HTTPException):
            if fetch(port, system.ready_path)[0] == 200:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{system.name} was not ready after {_START_SECONDS:g} s")


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and workers that outlived it
    process.wait()
