import socket

import pytest

from service import protocol
from tests.service.conftest import Running, ScriptedRecognizer, Serve


def connect(running: Running) -> socket.socket:
    url = running.client.base_url
    return socket.create_connection((url.host, url.port or 80), timeout=10)


def received(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    chunks = []
    try:
        while chunk := connection.recv(4096):
            chunks.append(chunk)
    except ConnectionResetError:
        pass
    return b"".join(chunks)


def test_a_head_that_never_ends_is_refused(shared: Running) -> None:
    """httptools alone once kept a header of 50 MB in memory."""
    with connect(shared) as connection:
        connection.sendall(b"GET /info HTTP/1.1\r\nX-Filler: ")
        connection.sendall(b"x" * (protocol.HEAD_BYTES + 1))
        assert received(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("beginning", [b"", b"GET /info HT", b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /inf"])
def test_a_head_that_takes_too_long_ends_its_connection(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    running = serve(scripted)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with connect(running) as connection:
        connection.sendall(beginning)
        answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == beginning.count(b"\r\n\r\n")


def test_a_body_longer_than_a_head_may_be_is_none_of_its_business(shared: Running, jpeg: bytes) -> None:
    image = jpeg + b"\0" * (protocol.HEAD_BYTES * 2)
    assert shared.post("Kawhi Leonard", image).status_code == 200


def test_a_connection_serves_one_request_after_another(shared: Running) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    with connect(shared) as connection:
        connection.sendall(3 * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")
        assert received(connection).count(b"HTTP/1.1 200 OK") == 4
