"""A service in another process, with its log in a file and its memory as the kernel counts it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]


class ServerProcess:
    """A running server.

    Args:
        child: its process.
        banner: the lines that it printed when it was ready.
        log_file: its standard error; a pipe would block it when full.
    """

    def __init__(self, child: "subprocess.Popen[str]", banner: list[str], log_file: Path) -> None:
        address = re.search(r"http://\S+", banner[0])
        assert address, log_file.read_text()
        self.child = child
        self.banner = banner
        self.address = address[0]
        self.port = int(self.address.rsplit(":", 1)[1])
        self._log_file = log_file

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        return self._bytes("VmRSS")

    @property
    def peak_memory(self) -> int:
        """The highest :attr:`memory` since :meth:`reset_peak`."""
        return self._bytes("VmHWM")

    def reset_peak(self) -> None:
        Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")  # proc(5)

    def metric(self, sample: str) -> float:
        """The value of a sample on ``/metrics``; 0 if it is missing."""
        page = httpx.get(f"{self.address}/metrics", timeout=20).text
        found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> int:
        """Send SIGTERM and wait; returns the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(20)

    def log(self) -> list[dict[str, Any]]:
        """Its log, every line of which must be JSON."""
        return [json.loads(line) for line in self._log_file.read_text().splitlines()]

    def _bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024


@contextmanager
def serving_process(*arguments: str, module: str = "service.serve") -> Iterator[ServerProcess]:
    """Run ``module`` on a free port, and kill it at the end."""
    with NamedTemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0", "--model-threads", "1", *arguments],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            try:
                yield ServerProcess(child, [child.stdout.readline() for _ in range(5)], Path(log.name))
            finally:
                child.kill()
                child.wait()
