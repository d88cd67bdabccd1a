import gc
import json
import re
import socket
import struct
import time

import pytest

from service.http import middleware, protocol
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually

FORM = b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\nKawhi Leonard\r\n--xx--\r\n'
POST = b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xx\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(FORM)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(FORM), FORM)
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"Connection: close\r\n"


def received(connection: socket.socket) -> bytes:
    """Everything sent until the server closes the connection."""
    chunks = []
    try:
        while chunk := connection.recv(4096):
            chunks.append(chunk)
    except ConnectionResetError:
        pass
    return b"".join(chunks)


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answers)]


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_LINGER_SECONDS", 0.1)


def test_endless_head_is_refused(shared: Running) -> None:
    """httptools alone kept a header of 50 MB in memory."""
    with shared.connect() as connection:
        connection.sendall(b"GET /info HTTP/1.1\r\nX-Filler: ")
        connection.sendall(b"x" * (protocol.HEAD_BYTES + 1))
        answer = received(connection)
    assert statuses(answer) == [400]
    assert b"the limit is 65536" in answer


@pytest.mark.parametrize("trailer", [b"a: b\r\n", b"endless"])
def test_trailers_are_dropped_and_limited(shared: Running, trailer: bytes) -> None:
    """8 MB of them cost 172 MB."""
    with shared.connect() as connection:
        connection.sendall(POST + CLOSE + CHUNKED + b"0\r\na: b\r\n\r\n")
        assert statuses(received(connection)) == [200]
    with shared.connect() as connection:
        connection.sendall(POST + CHUNKED + b"0\r\n")
        for _ in range(10):  # more than a single read
            connection.sendall(trailer * (protocol.HEAD_BYTES // len(trailer)))
        answer = received(connection)
    assert statuses(answer) == [400]
    assert b"the limit is 65536" in answer


def test_body_does_not_count_towards_the_next_head(
    shared: Running, monkeypatch: pytest.MonkeyPatch, jpeg: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_BYTES", 1000)  # less than a single read
    form = FORM[:-4] + b'\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + jpeg
    form += b"\0" * 2000 + b"\r\n--xx--\r\n"
    with shared.connect() as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(form))
        time.sleep(0.1)
        connection.sendall(form + GET[:9])
        time.sleep(0.2)
        connection.sendall(GET[9:-2] + CLOSE + b"\r\n")
        assert statuses(received(connection)) == [200, 200]


@pytest.mark.parametrize("beginning", [b"", b"GET /info HT", b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /inf"])
def test_slow_head_ends_the_connection(running: Running, monkeypatch: pytest.MonkeyPatch, beginning: bytes) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with running.connect() as connection:
        connection.sendall(beginning)
        answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == beginning.count(b"\r\n\r\n")


def test_slow_head_waits_for_the_answer_before_it(
    running: Running, brake: Brake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with running.connect() as connection:
        connection.sendall(POST + LENGTH + b"\r\n" + FORM + b"GET /inf")
        brake.wait_for_batch()
        time.sleep(0.3)
        brake.release()
        assert statuses(received(connection)) == [200]


def test_limit_of_the_head_spares_bodies(shared: Running, jpeg: bytes) -> None:
    image = jpeg + b"\0" * (protocol.HEAD_BYTES * 2)
    assert shared.post("Kawhi Leonard", image).status_code == 200


def test_connection_serves_many_requests(shared: Running) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    with shared.connect() as connection:
        connection.sendall(3 * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")
        assert received(connection).count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("offer", [b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"])
def test_pipelined_requests_are_limited(shared: Running, offer: bytes) -> None:
    """3000 pipelined probes cost a gigabyte, and with offers of another protocol ended in a RecursionError."""
    with shared.connect() as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n") * 3000)
        answer = received(connection)
    assert statuses(answer) == [200] * (1 + protocol.PIPELINED) + [400]
    assert b"more than 16 requests are pipelined" in answer


def test_keep_alive_timer_stops_during_a_request(running: Running, brake: Brake) -> None:
    running.server.config.timeout_keep_alive = 1  # from the end of the first answer
    post = POST + CLOSE + LENGTH + b"\r\n" + FORM
    with running.connect() as connection:
        connection.sendall(GET + post[:30])
        assert statuses(connection.recv(4096)) == [200]
        connection.sendall(post[30:])
        brake.wait_for_batch()
        time.sleep(1.2)
        brake.release()
        assert statuses(received(connection)) == [200]


def test_reset_connection_is_freed(running: Running) -> None:
    """uvicorn's keep-alive timer would keep it, and the request on it, for another minute."""

    def kept() -> int:
        gc.collect()
        return sum(
            type(thing) is protocol.GuardedProtocol and thing.server_state is running.server.server_state
            for thing in gc.get_objects()
        )

    before = kept()
    with running.connect() as connection:
        connection.sendall(GET)
        assert statuses(connection.recv(4096)) == [200]
        assert kept() == before + 1
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
    eventually(lambda: kept() == before)


def test_connect_method_ends_the_connection(shared: Running) -> None:
    """What follows CONNECT is not HTTP."""
    with shared.connect() as connection:
        connection.sendall(b"CONNECT a://b/info HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert statuses(received(connection)) == [405]


def test_content_length_may_have_leading_zeros(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(POST + CLOSE + b"Content-Length: %05000d\r\n\r\n" % len(FORM) + FORM)
        assert statuses(received(connection)) == [200]


@pytest.mark.parametrize("seconds", [0, 0.1])
@pytest.mark.parametrize("connection_header", [b"Upgrade, HTTP2-Settings", b"Upgrade, close"])
def test_upgrade_offer_is_ignored(shared: Running, seconds: float, connection_header: bytes) -> None:
    """Java's HttpClient sends one with every request, and was answered 400."""
    offer = b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nConnection: %b\r\n" % connection_header
    with shared.connect() as connection:
        connection.sendall(POST + LENGTH + offer + b"\r\n" + FORM[:5])
        time.sleep(seconds)
        connection.sendall(FORM[5:])
        if b"close" not in connection_header:
            connection.sendall(GET[:-2] + offer + CLOSE + b"\r\n")
        assert set(statuses(received(connection))) == {200}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nothing of the kind\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + LENGTH + LENGTH + b"\r\n" + FORM,
        POST + LENGTH + CHUNKED,
    ],
)
def test_invalid_http_gets_a_counted_problem(running: Running, request_bytes: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(GET + request_bytes)  # the first answer must not be lost
        first, second = re.split(rb"(?=HTTP/1.1 4)", received(connection))
    assert statuses(first) == [200]
    head, _, body = second.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert problem["code"] == "malformed_request"
    assert f"x-request-id: {problem['request_id']}".encode() in head.lower()
    metrics = running.client.get("/metrics").text
    assert 'smner_requests_total{method="other",route="none",status="400"} 1.0' in metrics
    assert 'smner_rejected_total{code="malformed_request"} 1.0' in metrics


def test_invalid_chunk_is_a_malformed_request(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--xx\r\r\n")
        eventually(lambda: running.limiter.permits_held == 1)
        connection.sendall(b"not a size\r\n")
        answer = received(connection)
    assert statuses(answer) == [400]
    assert b'"malformed_request"' in answer
    metrics = running.client.get("/metrics").text
    assert 'smner_requests_total{method="POST",route="/recognize",status="400"} 1.0' in metrics
    assert 'status="499"' not in metrics


@pytest.mark.parametrize(
    ("request_bytes", "more"), [(GET, b"\r\n"), (b"POST /nothing HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", b"x")]
)
def test_stray_bytes_keep_no_idle_connection_open(running: Running, request_bytes: bytes, more: bytes) -> None:
    running.server.config.timeout_keep_alive = 1
    with running.connect() as connection:
        connection.sendall(request_bytes)
        time.sleep(0.4)
        connection.sendall(more)
        assert len(statuses(received(connection))) == 1


def test_client_that_never_reads_is_disconnected(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(scripted, deadline_seconds=0.3)
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.6)
    monkeypatch.setattr(protocol, "PIPELINED", 500)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((running.client.base_url.host, running.client.base_url.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        eventually(lambda: 'route="none",status="499"} 1.0' in running.client.get("/metrics").text)
        assert "smner_requests_in_flight 1.0" in running.client.get("/metrics").text
