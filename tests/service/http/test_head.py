import httpx
import pytest

from tests.service.conftest import Running

PATHS = ["/info", "/health", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"]


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get(client: httpx.Client, path: str) -> None:
    """It was refused, so monitoring that asks with HEAD called a healthy service dead."""
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    differing = {"date", "x-request-id", "server-timing"}
    if path == "/metrics":  # whose numbers grow
        differing.add("content-length")
        assert int(head.headers["content-length"]) > 1000
    assert {k: v for k, v in head.headers.items() if k not in differing} == {
        k: v for k, v in get.headers.items() if k not in differing
    }
    assert head.headers["x-request-id"]


def test_head_keeps_the_connection_usable(shared: Running) -> None:
    with shared.connect() as connection:
        for _ in range(2):
            connection.sendall(b"HEAD /info HTTP/1.1\r\nHost: service\r\n\r\n")
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(b"\r\n\r\n")


def test_head_is_counted_as_head(running: Running) -> None:
    running.client.head("/info")
    page = running.client.get("/metrics").text
    assert 'smner_requests_total{method="HEAD",route="/info",status="200"} 1.0' in page


def test_head_of_posts_is_refused(client: httpx.Client) -> None:
    for path in ("/recognize", "/recognize/batch"):
        answer = client.head(path)
        assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST")
    assert client.head("/nothing").status_code == 404


def test_allow_names_head_beside_get(client: httpx.Client) -> None:
    assert client.delete("/info").headers["allow"] == "GET, HEAD"
