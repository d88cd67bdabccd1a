"""How far several processes multiply one: ``python -m tests.benchmarks.serving.processes``.

The device is a fake one that takes 0.2 ms a post, so the rates are what HTTP, decoding and the interpreter allow. Texts
show the interpreter, of which a process has one, whatever the cores. Photos show the cores, which all processes share
with the load generator and HAProxy; each way has as many threads that decode.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from model.checkpoint import checkpoint_folder
from service.settings import available_cores
from tests.benchmarks.serving.load import Load, LoadGenerator
from tests.benchmarks.serving.posts import Post, load_posts
from tests.benchmarks.serving.report import Report
from tests.benchmarks.serving.systems import System, fetch, free_port, running

_CONFIGURATION = Path(__file__).parents[3] / "docker" / "haproxy" / "haproxy.cfg"
_CLIENTS = 64
_START_SECONDS = 20.0
_SYSTEM = "fake device, 0.2 ms a post"


class Way(NamedTuple):
    """How many processes serve, and whether behind HAProxy."""

    processes: int
    proxied: bool = True

    @property
    def name(self) -> str:
        count = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{count}, HAProxy" if self.proxied else count


_WAYS = (Way(1, proxied=False), Way(1), Way(2))


def compare_processes(report: Report, posts: Sequence[Post], checkpoint: Path, *, seconds: float, rounds: int) -> None:
    """Measure texts and photos with each way in turns; adds rows, and the ratios as figures."""
    if shutil.which("haproxy") is None:
        report.notes.append("several processes: left out, haproxy is not installed")
        return
    kinds = {"texts": [Post(post.text, b"") for post in posts], "photos": list(posts)}
    with ExitStack() as stack:
        generators = {kind: stack.enter_context(LoadGenerator(own)) for kind, own in kinds.items()}
        for _ in range(rounds):
            for way in _WAYS:
                with _serving(way, checkpoint) as port:
                    for kind, generator in generators.items():
                        load = Load(port=port, clients=_CLIENTS, seconds=seconds)
                        report.row(_SYSTEM, f"{way.name}, {kind}").add(generator.offer(load))
    for kind in kinds:
        rates = [report.row(_SYSTEM, f"{way.name}, {kind}").rate for way in _WAYS]
        report.figure(f"{_WAYS[1].name} ÷ {_WAYS[0].name}, {kind}", rates[1] / rates[0])
        report.figure(f"{_WAYS[2].name} ÷ {_WAYS[0].name}, {kind}", rates[2] / rates[0])


@contextmanager
def _serving(way: Way, checkpoint: Path) -> Iterator[int]:
    """The port of the only process, or of HAProxy in front of all."""
    workers = str(max(1, available_cores() // way.processes))
    arguments = ("--checkpoint", str(checkpoint), "--image-cache-mb", "0", "--model-threads", "1")
    system = System(
        "fake device",
        "tests.benchmarks.serving.fake_device",
        (*arguments, "--decode-workers", workers),
        "/health/ready",
    )
    with ExitStack() as stack:
        ports = [stack.enter_context(running(system)).port for _ in range(way.processes)]
        yield stack.enter_context(proxy(ports)) if way.proxied else ports[0]


@contextmanager
def proxy(ports: Sequence[int]) -> Iterator[int]:
    """Run HAProxy with the stack's configuration, but with these servers instead of those that Docker names."""
    port = free_port()
    with TemporaryDirectory() as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(_configuration(port, ports), "utf-8")
        haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=subprocess.DEVNULL)
        try:
            _wait_until_ready(haproxy, port)
            yield port
        finally:
            haproxy.terminate()
            haproxy.wait()


def _configuration(port: int, servers: Sequence[int]) -> str:
    text = _CONFIGURATION.read_text("utf-8")
    text = re.sub(r"^  server-template .*\n", "", text, flags=re.MULTILINE)
    text += "".join(f"  server smner-{server} 127.0.0.1:{server}\n" for server in servers)
    for old, new in (("bind :8000", port), ("bind :8405", free_port())):
        text = text.replace(old, f"bind 127.0.0.1:{new}")
    return text.replace("127.0.0.1:9999", f"127.0.0.1:{free_port()}")


def _wait_until_ready(haproxy: "subprocess.Popen[bytes]", port: int) -> None:
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit and haproxy.poll() is None:
        with suppress(OSError, HTTPException):
            if fetch(port, "/health/ready")[0] == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"HAProxy was not ready within {_START_SECONDS:g} s, or exited with {haproxy.poll()}")


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.serving.processes", description=__doc__)
    parser.add_argument("--posts", type=int, default=200, help="distinct posts (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each row is measured (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often (%(default)s)")
    options = parser.parse_args()
    report = Report({})
    compare_processes(
        report,
        load_posts(options.posts).posts,
        checkpoint_folder().resolve(),
        seconds=options.seconds,
        rounds=options.rounds,
    )
    print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
