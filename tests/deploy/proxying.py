"""HAProxy with our configuration in front of replicas, whose addresses a name server knows, as Docker's does."""

import random
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from service.serve import bind
from tests.deploy.conftest import DOCKER, system_command
from tests.service.conftest import Running, eventually

CONFIGURATION = DOCKER / "haproxy" / "haproxy.cfg"
RUNNING, STOPPED = 2, 0  # HAProxy's srv_op_state
_TTL = 600  # Docker's


def free_port() -> int:
    with bind("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
    return port


class Names(BaseResolver):
    """The addresses of each service; others do not exist. Changing them is what Docker does as containers come and go.

    >>> names = Names()
    >>> names["smner"] = ["172.18.0.2", "172.18.0.3"]
    """

    def __init__(self) -> None:
        self._addresses: dict[str, list[str]] = {}

    def __setitem__(self, service: str, addresses: list[str]) -> None:
        self._addresses[service] = addresses

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:  # noqa: ARG002 its signature
        reply, found = request.reply(), self._addresses.get(str(request.q.qname).rstrip("."), [])
        if not found:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            for address in random.sample(found, len(found)):  # Docker's order changes, too
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=_TTL))
        return reply


@contextmanager
def resolving(names: Names) -> Iterator[str]:
    """Run the name server; yields its HOST:PORT."""
    server = DNSServer(names, address="127.0.0.1", port=0, logger=DNSLogger("-request,-reply,-truncated,-error"))
    server.start_thread()
    try:
        yield f"127.0.0.1:{server.server.server_address[1]}"
    finally:
        server.stop()
        server.server.server_close()


@contextmanager
def proxying(
    folder: Path,
    *replicas: str,
    names: Names | None = None,
    metrics_port: int | None = None,
    admin_port: int | None = None,
) -> Iterator[httpx.Client]:
    """Run HAProxy in front of ``replicas`` (HOST:PORT, with the same port) and yield a client of it.

    It logs to the file ``log`` in ``folder``. ``names`` learns the replicas' addresses, and may change later.
    """
    names, port, (target,) = names or Names(), free_port(), {replica.rsplit(":", 1)[1] for replica in replicas}
    names["smner"] = [replica.rsplit(":", 1)[0] for replica in replicas]
    changed = {
        "bind :8000": f"bind 127.0.0.1:{port}",
        "bind :8405": f"bind 127.0.0.1:{metrics_port or free_port()}",
        "127.0.0.1:9999": f"127.0.0.1:{admin_port or free_port()}",
        " smner:8000": f" smner:{target}",
        " smner-gpu-1:8000": f" smner-gpu-1:{target}",
    }
    with ExitStack() as stack:
        changed["127.0.0.11:53"] = stack.enter_context(resolving(names))
        file = folder / "haproxy.cfg"
        file.write_text(_with(changed), "utf-8")
        log = stack.enter_context((folder / "log").open("wb"))
        haproxy = subprocess.Popen([system_command("haproxy"), "-db", "-f", str(file)], stdout=log)
        stack.callback(haproxy.wait)
        stack.callback(haproxy.terminate)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20))
        eventually(lambda: answers(client))
        yield client


def _with(changed: Mapping[str, str]) -> str:
    text = CONFIGURATION.read_text("utf-8")
    for old, new in changed.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def address(replica: Running) -> str:
    return str(replica.client.base_url).removeprefix("http://")


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def states(port: int) -> dict[str, int]:
    """HAProxy's srv_op_state of each replica's address, read from the same fields as docker/roll.sh does."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"show servers state smner\n")
        lines = connection.makefile(encoding="ascii").read().splitlines()
    rows = [line.split() for line in lines if " smner " in line]
    return {row[4]: int(row[5]) for row in rows if row[4] != "-"}
