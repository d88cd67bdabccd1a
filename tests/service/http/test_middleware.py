import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from structlog.testing import capture_logs

from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually, form

TEXT_PART = b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n'
END = b"--xx--\r\n"


def raw_post(body: bytes, *, length: int | None = None) -> bytes:
    return (
        b"POST /recognize HTTP/1.1\r\nHost: service\r\nContent-Type: multipart/form-data; boundary=xx\r\n"
        b"Content-Length: " + str(len(body) if length is None else length).encode() + b"\r\n\r\n" + body
    )


def stages(answer: httpx.Response) -> list[str]:
    return [entry.partition(";")[0] for entry in answer.headers["server-timing"].split(", ")]


def disconnected(running: Running) -> bool:
    """Whether a client that disconnected has been noticed."""
    return 'status="499"' in running.client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health/live"), ("GET", "/info"), ("GET", "/nothing"), ("PUT", "/recognize"), ("POST", "/recognize")],
)
def test_every_answer_has_id_and_server_timing(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert len(answer.headers["x-request-id"]) == 32
    assert "total;dur=" in answer.headers["server-timing"]


def test_server_timing_has_the_stages_reached(shared: Running) -> None:
    assert stages(shared.post()) == ["receive", "decode", "queue", "model", "total"]
    assert stages(shared.post("hi", b"no image")) == ["receive", "decode", "total"]


def test_safe_request_id_is_kept(client: httpx.Client) -> None:
    assert client.get("/nothing", headers={"X-Request-ID": "trace-1"}).headers["x-request-id"] == "trace-1"
    assert client.get("/info", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_deadline_covers_the_upload(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, deadline_seconds=0.2)
    with running.connect() as connection:
        connection.sendall(raw_post(TEXT_PART, length=10_000))
        answer = connection.recv(4096)
        assert b" 504 " in answer
        assert b"connection: close" in answer
        assert re.search(rb"receive;dur=\d{3}\.", answer)  # some 200 ms
    eventually(lambda: running.limiter.permits_held == 0)


def test_deadline_covers_decoding(scripted: ScriptedRecognizer, serve: Serve) -> None:
    """The permit is held until the thread has finished, since it cannot be stopped."""
    running = serve(scripted, deadline_seconds=0.2)
    scripted.before_prepare = lambda *_: time.sleep(0.6)
    answer = running.post()
    assert answer.status_code == 504
    assert stages(answer) == ["receive", "decode", "total"]
    assert running.limiter.permits_held == 1
    eventually(lambda: running.limiter.permits_held == 0)


def test_disconnect_in_the_queue_drops_the_post(running: Running, brake: Brake) -> None:
    with running.connect() as first, running.connect() as second:
        first.sendall(raw_post(TEXT_PART + END))
        brake.wait_for_batch()
        second.sendall(raw_post(TEXT_PART + END))
        eventually(lambda: running.engine.depth == 1)
        second.close()
        eventually(lambda: running.limiter.permits_held == 1)
        brake.release()
        assert b" 200 OK" in first.recv(4096)
    assert len(brake.batches) == 1
    assert disconnected(running)


def test_disconnect_while_decoding_drops_the_post(running: Running, brake: Brake, scripted: ScriptedRecognizer) -> None:
    brake.release()
    decoding, decoded = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        decoding.set()
        assert decoded.wait(20)

    scripted.before_prepare = wait
    with running.connect() as client:
        client.sendall(raw_post(TEXT_PART + END))
        assert decoding.wait(20)
    eventually(lambda: disconnected(running))
    assert running.limiter.permits_held == 1  # its thread is at work
    decoded.set()
    eventually(lambda: running.limiter.permits_held == 0)
    assert running.post("somebody else").status_code == 200
    assert brake.batches == [["somebody else"]]


def test_disconnect_in_the_model_spares_the_batch(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, max_batch_padding=10)  # lets these two posts run together
    brake = Brake(scripted)
    with running.connect() as first, ThreadPoolExecutor(1) as pool, running.connect() as second:
        first.sendall(raw_post(TEXT_PART + END))
        brake.wait_for_batch()  # what comes now waits together
        second.sendall(raw_post(TEXT_PART + END))
        neighbor = pool.submit(running.post, "Kawhi Leonard")
        eventually(lambda: running.engine.depth == 2)
        brake.release(1)
        brake.wait_for_batch(2)
        second.close()
        eventually(lambda: disconnected(running))
        brake.release()
        assert b" 200 OK" in first.recv(4096)
        answer = neighbor.result()
    assert brake.batches == [["hello"], ["hello", "Kawhi Leonard"]]
    expected = scripted.recognize("Kawhi Leonard")
    assert [(e["start"], e["end"]) for e in answer.json()["entities"]] == [(e.start, e.end) for e in expected]
    eventually(lambda: running.limiter.permits_held == 0)


def test_disconnect_in_the_upload_releases_the_permit(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(raw_post(TEXT_PART, length=10_000))
        eventually(lambda: shared.limiter.permits_held == 1)
    eventually(lambda: shared.limiter.permits_held == 0)


def test_unexpected_exception_is_an_internal_error(running: Running, scripted: ScriptedRecognizer) -> None:
    """Its message may repeat the post, which must not appear in the log."""

    def broken(text: str, _: object) -> None:
        raise KeyError(text)

    scripted.before_prepare = broken
    with capture_logs() as logs:
        answer = running.post("private words")
        eventually(lambda: any(entry["event"] == "request" for entry in logs))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"]
    assert logs[0]["request_id"] == answer.headers["x-request-id"]
    assert logs[0].pop("exc_info")  # the log has only its type and place, see test_logs
    assert "private words" not in json.dumps(logs)


def test_log_of_a_request_repeats_nothing_sent(shared: Running) -> None:
    with capture_logs() as logs:
        answer = shared.client.post(
            "/recognize?explain=false",
            files=[*form("private words"), ("image", ("private.jpg", b"private bytes"))],
            headers={"X-Request-ID": "trace-2", "User-Agent": "private agent"},
        )
        assert answer.status_code == 415
        eventually(lambda: len(logs) > 0)
    (entry,) = logs
    assert {
        "event": "request",
        "request_id": "trace-2",
        "route": "/recognize",
        "status": 415,
        "code": "unsupported_image",
    }.items() <= entry.items()
    assert entry["receive_seconds"] >= 0
    assert "private" not in json.dumps(logs)
