"""HAProxy with our configuration in front of two real services; skipped where HAProxy is not installed."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from service.http.problems import KINDS, Problem
from service.serve import bind
from tests.deploy.conftest import DOCKER, run, stack, system_command
from tests.service.conftest import Running, ScriptedRecognizer, Serve, eventually, form

CONFIGURATION = DOCKER / "haproxy" / "haproxy.cfg"
NOTICE_SECONDS = float(stack()["services"]["smner"]["environment"]["SMNER_SHUTDOWN_DELAY_SECONDS"])
RUNNING, STOPPED = 2, 0  # HAProxy's srv_op_state


@pytest.fixture(autouse=True)
def haproxy() -> None:
    system_command("haproxy")


def free_port() -> int:
    with bind("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def proxying(
    folder: Path, *, metrics_port: int | None = None, admin_port: int | None = None, **replicas: str
) -> Iterator[httpx.Client]:
    """Run HAProxy with our configuration in front of ``replicas`` (HOST:PORT each) and yield a client of it.

    It logs to the file ``log`` in ``folder``.
    """
    text = CONFIGURATION.read_text("utf-8")
    port = free_port()
    bound = {":8080": port, ":8405": metrics_port or free_port(), "127.0.0.1:9999": admin_port or free_port()}
    for configured, free in bound.items():
        assert text.count(configured) == 1
        text = text.replace(configured, f"127.0.0.1:{free}")
    for name, address in replicas.items():
        replica = name.replace("_", "-")
        text, count = re.subn(rf"server {replica} \S+:8000", f"server {replica} {address}", text)
        assert count == 1
    file = folder / "haproxy.cfg"
    file.write_text(text, "utf-8")
    command = [system_command("haproxy"), "-db", "-f", str(file)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log) as haproxy:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                eventually(lambda: answers(client))
                yield client
        finally:
            haproxy.terminate()


def address(replica: Running) -> str:
    return str(replica.client.base_url).removeprefix("http://")


def states(port: int) -> dict[str, int]:
    """HAProxy's srv_op_state of each replica, read from the same fields as docker/roll.sh does."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"show servers state smner\n")
        lines = connection.makefile(encoding="ascii").read().splitlines()
    rows = [line.split() for line in lines if " smner " in line]
    return {row[3]: int(row[5]) for row in rows}


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_haproxy_accepts_the_configuration() -> None:
    done = run(system_command("haproxy"), "-c", "-f", CONFIGURATION)
    assert done.returncode == 0, done.stdout


def test_no_post_is_lost_when_a_replica_stops(
    make_recognizer: Callable[[], ScriptedRecognizer], serve: Serve, tmp_path: Path
) -> None:
    admin_port = free_port()
    first, second = (serve(make_recognizer(), shutdown_delay_seconds=NOTICE_SECONDS) for _ in range(2))

    def posts(running: Running) -> int:
        lines = running.client.get("/metrics").text.splitlines()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith("smner_posts_total"))

    def ask() -> int:
        return client.post("/recognize", files=form()).status_code

    def ask_until_it_has_stopped() -> set[int]:
        limit, seen = time.monotonic() + NOTICE_SECONDS + 2, set()
        while time.monotonic() < limit:
            seen.add(ask())
        return seen

    with proxying(tmp_path, admin_port=admin_port, smner=address(first), smner_1=address(second)) as client:
        eventually(lambda: ask() == 200 and posts(first) > 0 and posts(second) > 0)
        eventually(lambda: states(admin_port) == {"smner": RUNNING, "smner-1": RUNNING})
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask_until_it_has_stopped) for _ in range(4)]
            second.sigterm()
            assert set().union(*(some.result() for some in asking)) == {200}
        assert not answers(second.client)
        assert states(admin_port) == {"smner": RUNNING, "smner-1": STOPPED}
        before = posts(first)
        assert [ask() for _ in range(20)] == [200] * 20
        assert posts(first) == before + 20


def test_every_post_gets_a_new_replica_connection(tmp_path: Path) -> None:
    """A replica may close a kept-alive connection just as the next post is sent on it."""
    connections = []

    class Replica(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections open

        def do_GET(self) -> None:
            if self.path == "/info":
                connections.append(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Replica) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        one = f"127.0.0.1:{server.server_port}"
        with proxying(tmp_path, smner=one, smner_1=one) as client:
            for _ in range(3):
                answer = client.get("/info")
                assert answer.headers.get("Connection", "keep-alive") == "keep-alive"  # the client's stays
        server.shutdown()
    assert len(set(connections)) == 3


def test_proxy_does_not_expose_metrics(shared: Running, tmp_path: Path) -> None:
    with proxying(tmp_path, smner=address(shared), smner_1=address(shared)) as client:
        assert client.get("/info").status_code == 200
        assert client.get("/metrics").status_code == 404


def test_page_is_reached_through_the_proxy(shared: Running, tmp_path: Path) -> None:
    with proxying(tmp_path, smner=address(shared), smner_1=address(shared)) as client:
        for path in ("/", "/page/page.js"):
            assert client.get(path).headers["content-security-policy"].startswith("default-src 'none'")


def test_proxy_without_replicas_answers_a_problem(
    make_recognizer: Callable[[], ScriptedRecognizer], serve: Serve, tmp_path: Path
) -> None:
    replicas = [serve(make_recognizer(), shutdown_delay_seconds=NOTICE_SECONDS) for _ in range(2)]
    with proxying(tmp_path, smner=address(replicas[0]), smner_1=address(replicas[1])) as client:
        for replica in replicas:
            replica.sigterm()
        eventually(lambda: "no replica is ready" in client.post("/recognize", files=form()).text)
        answer = client.post("/recognize", files=form())
        # operators search the log for the id; the line may be written after the answer
        eventually(lambda: answer.headers["X-Request-ID"] in (tmp_path / "log").read_text("utf-8"))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = Problem.model_validate(answer.json())
    assert (problem.code, problem.title) == ("not_ready", KINDS["not_ready"].title)
    assert problem.request_id == answer.headers["X-Request-ID"]
    (logged,) = [line for line in (tmp_path / "log").read_text("utf-8").splitlines() if problem.request_id in line]
    assert logged.startswith("smner/")
    assert " status=503 " in logged


def test_successful_requests_are_not_logged(shared: Running, tmp_path: Path) -> None:
    with proxying(tmp_path, smner=address(shared), smner_1=address(shared)) as client:
        before = (tmp_path / "log").read_text("utf-8").count("status=")
        assert client.get("/info").status_code == 200
    assert (tmp_path / "log").read_text("utf-8").count("status=") == before


def test_internal_port_serves_health_and_metrics(shared: Running, tmp_path: Path) -> None:
    port = free_port()
    with proxying(tmp_path, metrics_port=port, smner=address(shared), smner_1=address(shared)) as client:
        assert client.get("/nowhere").status_code == 404
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/recognize").status_code == 404
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "\nhaproxy_process_nbthread 2\n" in metrics
    assert '\nhaproxy_frontend_http_responses_total{proxy="http",code="4xx"} 1\n' in metrics
