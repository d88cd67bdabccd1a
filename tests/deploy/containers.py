"""A stand-in for ``docker`` as docker/roll.sh uses it: its containers are services in this process."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Thread

import httpx

from tests.deploy.proxying import Names, states
from tests.service.conftest import Running, eventually

_COMMAND = """#!{python} -IS
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("{socket}")
    connection.sendall("\\0".join(sys.argv[1:]).encode() + b"\\n")
    print(end=connection.makefile().read())
"""


class Docker:
    """Containers of the service ``smner``, by id; None is one that exits as soon as it starts.

    Args:
        start: starts the service of a number on the address 127.0.1.NUMBER.
        names: learns the addresses.
        admin_port: HAProxy's.
    """

    def __init__(self, start: Callable[[int], Running], names: Names, admin_port: int) -> None:
        self.containers: dict[str, Running | None] = {}
        self.orders: list[str] = []  # those that change something
        self.broken = False
        self.health = "healthy"  # of each container
        self._start = start
        self._names = names
        self._admin_port = admin_port
        self._number = 0

    def scale(self, count: int) -> None:
        while len(self.containers) < count:
            self._number += 1
            self.containers[f"c{self._number}"] = None if self.broken else self._start(self._number)
        self._name()

    def answer(self, order: list[str]) -> str:
        """What the command prints."""
        match order:
            case ["compose", "ps", "--quiet", "smner"]:
                return "".join(f"{container}\n" for container in self.containers)
            case ["compose", "exec", "-T", "proxy", "nc", "127.0.0.1", "9999"]:
                rows = states(self._admin_port).items()
                return "".join(f"3 smner 1 smner-1 {address} {state} 0\n" for address, state in rows)
            case ["inspect", "--format", "{{.State.Health.Status}}", _]:
                return self.health
            case ["inspect", "--format", "{{.RestartCount}}", container]:
                return "1" if self.containers[container] is None else "0"
            case ["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container]:
                return "" if self.containers[container] is None else _address(container)
        self.orders.append(" ".join(order))
        return self._carry_out(order)

    def _carry_out(self, order: list[str]) -> str:
        match order:
            case ["compose", "up", "--detach", "--no-deps", "--no-recreate", "--scale", scale, "smner"]:
                self.scale(int(scale.removeprefix("smner=")))
            case ["stop", container]:
                self._stop(container)
            case ["rm", "--force", container] | ["rm", container]:
                del self.containers[container]
                self._name()
            case ["logs", "--tail", "20", _]:
                return "smner-serve: checkpoint: no such folder\n"
            case _:
                assert order == ["compose", "rm", "--force", "smner"]
        return ""

    def _stop(self, container: str) -> None:
        running = self.containers[container]
        assert running is not None
        running.sigterm()
        eventually(lambda: _refuses(running.client), seconds=20)

    def _name(self) -> None:
        self._names["smner"] = [_address(container) for container, running in self.containers.items() if running]


@contextmanager
def command(docker: Docker, folder: Path) -> Iterator[Path]:
    """The path of a command that passes its arguments to ``docker``."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            order = self.rfile.readline().decode().rstrip("\n").split("\0")
            self.wfile.write(docker.answer(order).encode())

    path, listener = folder / "docker", folder / "docker.sock"
    path.write_text(_COMMAND.format(python=sys.executable, socket=listener), "utf-8")
    path.chmod(0o755)
    with ThreadingUnixStreamServer(str(listener), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


def _address(container: str) -> str:
    return f"127.0.1.{container.removeprefix('c')}"


def _refuses(client: httpx.Client) -> bool:
    try:
        client.get("/health/live")
    except httpx.TransportError:
        return True
    return False
