"""HAProxy with our configuration in front of real services; skipped where HAProxy is not installed."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from service.http.problems import KINDS, Problem
from tests.deploy.conftest import run, system_command
from tests.deploy.proxying import (
    CONFIGURATION,
    RUNNING,
    Names,
    address,
    free_port,
    proxying,
    states,
)
from tests.service.conftest import Running, ScriptedRecognizer, Serve, eventually, form


@pytest.fixture(autouse=True)
def haproxy() -> None:
    system_command("haproxy")


def test_haproxy_accepts_the_configuration() -> None:
    done = run(system_command("haproxy"), "-c", "-f", CONFIGURATION)
    assert done.returncode == 0, done.stdout


Start = Callable[[int], Running]


@pytest.fixture
def start(make_recognizer: Callable[[], ScriptedRecognizer], serve: Serve) -> Start:
    """Starts the replica of this number, on an address of its own and the port that all have."""
    port = free_port()
    return lambda number: serve(make_recognizer(), host=f"127.0.1.{number}", port=port, shutdown_delay_seconds=4)


def posts(running: Running) -> int:
    lines = running.client.get("/metrics").text.splitlines()
    return sum(int(float(line.split()[1])) for line in lines if line.startswith("smner_posts_total"))


def test_replicas_come_and_go_with_their_names(start: Start, tmp_path: Path) -> None:
    """``docker compose up --scale smner=3`` and a second GPU's service need no change of the configuration."""
    names, admin_port, first = Names(), free_port(), start(1)
    with proxying(tmp_path, address(first), names=names, admin_port=admin_port) as client:
        eventually(lambda: states(admin_port) == {"127.0.1.1": RUNNING})
        others = [start(2), start(3)]
        names["smner"] = ["127.0.1.1", "127.0.1.2"]
        names["smner-gpu-1"] = ["127.0.1.3"]
        eventually(lambda: states(admin_port) == dict.fromkeys(("127.0.1.1", "127.0.1.2", "127.0.1.3"), RUNNING))
        for _ in range(12):
            assert client.post("/recognize", files=form()).status_code == 200
        assert min(posts(replica) for replica in (first, *others)) >= 3
        names["smner"] = ["127.0.1.2"]
        eventually(lambda: states(admin_port) == {"127.0.1.2": RUNNING, "127.0.1.3": RUNNING})


def test_a_new_address_is_not_yet_health(start: Start, tmp_path: Path) -> None:
    """HAProxy takes it for ready until its first check."""
    names, admin_port, metrics_port, first = Names(), free_port(), free_port(), start(1)
    ports = {"admin_port": admin_port, "metrics_port": metrics_port}
    with proxying(tmp_path, address(first), names=names, **ports):
        before = (tmp_path / "log").read_text("utf-8").count("status=503")
        names["smner"] = ["127.0.1.9"]  # where nothing listens yet
        eventually(lambda: states(admin_port) == {"127.0.1.9": RUNNING})
        assert httpx.head(f"http://127.0.0.1:{metrics_port}/health/ready").status_code == 503
    assert (tmp_path / "log").read_text("utf-8").count("status=503") == before  # checks every second would fill it


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
        with proxying(tmp_path, one) as client:
            for _ in range(3):
                answer = client.get("/info")
                assert answer.headers.get("Connection", "keep-alive") == "keep-alive"  # the client's stays
        server.shutdown()
    assert len(set(connections)) == 3


def test_proxy_does_not_expose_metrics(shared: Running, tmp_path: Path) -> None:
    with proxying(tmp_path, address(shared)) as client:
        assert client.get("/info").status_code == 200
        for path in ("/metrics", "/metrics?", "/%6detrics"):  # the service decodes paths
            assert client.get(path).status_code == 404


def test_page_is_reached_through_the_proxy(shared: Running, tmp_path: Path) -> None:
    with proxying(tmp_path, address(shared)) as client:
        for path in ("/", "/page/page.js"):
            assert client.get(path).headers["content-security-policy"].startswith("default-src 'none'")


def test_proxy_without_replicas_answers_a_problem(start: Start, tmp_path: Path) -> None:
    replicas, metrics_port = [start(1), start(2)], free_port()
    with proxying(tmp_path, *map(address, replicas), metrics_port=metrics_port) as client:
        assert httpx.get(f"http://127.0.0.1:{metrics_port}/health/ready").status_code == 200
        for replica in replicas:
            replica.sigterm()
        eventually(lambda: "no replica is ready" in client.post("/recognize", files=form()).text)
        answer = client.post("/recognize", files=form())
        # operators search the log for the id; the line may be written after the answer
        assert httpx.get(f"http://127.0.0.1:{metrics_port}/health/ready").status_code == 503  # what Docker shows
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
    with proxying(tmp_path, address(shared)) as client:
        before = (tmp_path / "log").read_text("utf-8").count("status=")
        assert client.get("/info").status_code == 200
    assert (tmp_path / "log").read_text("utf-8").count("status=") == before


def test_internal_port_serves_health_and_metrics(shared: Running, tmp_path: Path) -> None:
    port = free_port()
    with proxying(tmp_path, address(shared), metrics_port=port) as client:
        assert client.get("/nowhere").status_code == 404
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/recognize").status_code == 404
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "\nhaproxy_process_nbthread 2\n" in metrics
    assert '\nhaproxy_frontend_http_responses_total{proxy="http",code="4xx"} 1\n' in metrics
