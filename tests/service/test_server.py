from concurrent.futures import ThreadPoolExecutor

import pytest

from service.serve import bind
from service.server import url_of
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually


@pytest.fixture
def watched(scripted: ScriptedRecognizer, serve: Serve) -> Running:
    """A server with a port for metrics."""
    return serve(scripted, metrics_port=0)


def test_metrics_leave_the_public_port(watched: Running) -> None:
    assert watched.post().status_code == 200
    assert watched.client.get("/metrics").status_code == 404
    document = watched.client.get("/openapi.json").json()
    assert "/metrics" not in document["paths"]
    assert "/health/ready" in document["paths"]
    page = watched.metrics_client.get("/metrics").text
    assert 'smner_requests_total{method="POST",route="/recognize",status="200"} 1' in page


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health_is_on_both_ports(watched: Running, path: str) -> None:
    assert watched.client.get(path).json() == watched.metrics_client.get(path).json()


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/info", "/docs", "/redoc", "/openapi.json", "/recognize"])
def test_metrics_port_serves_nothing_else(watched: Running, path: str) -> None:
    assert watched.client.get(path).status_code != 404 or path == "/redoc"
    answer = watched.metrics_client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert watched.metrics_client.post(path).status_code == 404


def test_draining_is_seen_on_the_metrics_port(watched: Running, scripted: ScriptedRecognizer) -> None:
    brake = Brake(scripted)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(watched.post)
        brake.wait_for_batch()
        watched.sigterm()
        assert watched.metrics_client.get("/health/ready").status_code == 503
        assert watched.metrics_client.get("/health/live").status_code == 200
        assert "smner_requests_in_flight 2" in watched.metrics_client.get("/metrics").text
        brake.release()
        assert accepted.result().status_code == 200
    eventually(lambda: not watched.server.servers[1].is_serving())


def test_banner_names_the_metrics_port(
    scripted: ScriptedRecognizer, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(scripted, metrics_port=0).metrics_client.base_url).rstrip("/")
    printed = ""

    def complete() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return f"\nMetrics: {address}/metrics\n" in printed

    eventually(complete)


def test_printed_url_can_be_opened() -> None:
    with bind("0.0.0.0", 0) as listener:  # noqa: S104
        assert url_of(listener) == f"http://localhost:{listener.getsockname()[1]}"
