import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from model import Post
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually, form


def connect(running: Running) -> socket.socket:
    url = running.client.base_url
    return socket.create_connection((url.host, url.port or 80), timeout=10)


def raw_post(body: bytes, *, length: int | None = None) -> bytes:
    return (
        b"POST /recognize HTTP/1.1\r\nHost: service\r\nContent-Type: multipart/form-data; boundary=xx\r\n"
        b"Content-Length: " + str(len(body) if length is None else length).encode() + b"\r\n\r\n" + body
    )


TEXT_PART = b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n'


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health/live"), ("GET", "/info"), ("GET", "/nothing"), ("PUT", "/recognize"), ("POST", "/recognize")],
)
def test_every_answer_has_an_id_and_its_timing(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert len(answer.headers["x-request-id"]) == 32
    assert "total;dur=" in answer.headers["server-timing"]


def test_a_post_is_timed_in_all_its_stages(shared: Running) -> None:
    timing = shared.post().headers["server-timing"]
    assert [entry.partition(";")[0] for entry in timing.split(", ")] == ["receive", "decode", "queue", "model", "total"]


def test_a_refused_post_is_timed_as_far_as_it_came(shared: Running) -> None:
    timing = shared.post("hi", b"no photo").headers["server-timing"]
    assert [entry.partition(";")[0] for entry in timing.split(", ")] == ["receive", "decode", "total"]


def test_a_clients_id_is_kept_if_it_is_safe(client: httpx.Client) -> None:
    assert client.get("/nothing", headers={"X-Request-ID": "trace-1"}).headers["x-request-id"] == "trace-1"
    assert client.get("/info", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_the_deadline_covers_the_upload(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, deadline_seconds=0.2)
    with connect(running) as connection:
        connection.sendall(raw_post(TEXT_PART, length=10_000))
        answer = connection.recv(4096)
        assert b" 504 " in answer
        assert b"connection: close" in answer
        assert re.search(rb"receive;dur=\d{3}\.", answer)  # some 200 ms
    eventually(lambda: running.service.gate.inside == 0)


def test_the_deadline_covers_decoding_whose_thread_keeps_its_place(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(scripted, deadline_seconds=0.2)
    prepare = scripted.prepare

    def slowly(text: str, *rest: object, **options: object) -> object:
        time.sleep(0.6)
        return prepare(text)

    monkeypatch.setattr(scripted, "prepare", slowly)
    answer = running.post()
    assert answer.status_code == 504
    assert "decode;dur=" in answer.headers["server-timing"]
    assert running.service.gate.inside == 1
    eventually(lambda: running.service.gate.inside == 0)


def test_a_client_that_leaves_while_it_waits_is_dropped_before_its_turn(
    scripted: ScriptedRecognizer, serve: Serve
) -> None:
    running = serve(scripted)
    brake = Brake(scripted)
    with connect(running) as first, connect(running) as second:
        first.sendall(raw_post(TEXT_PART + b"--xx--\r\n"))
        brake.wait_for_batch()
        second.sendall(raw_post(TEXT_PART + b"--xx--\r\n"))
        eventually(lambda: running.service.engine.depth == 1)
        second.close()
        eventually(lambda: running.service.gate.inside == 1)
        brake.release()
        assert b" 200 OK" in first.recv(4096)
    assert len(brake.batches) == 1
    assert 'status="499"' in running.client.get("/metrics").text


def test_a_client_that_leaves_while_its_image_is_decoded_never_reaches_the_model(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(scripted)
    brake = Brake(scripted)
    brake.release()
    decoding, decoded = threading.Event(), threading.Event()
    prepare = scripted.prepare

    def slowly(text: str, *rest: Any, **options: Any) -> Post:
        decoding.set()
        assert decoded.wait(20)
        return prepare(text, *rest, **options)

    monkeypatch.setattr(scripted, "prepare", slowly)
    with connect(running) as client:
        client.sendall(raw_post(TEXT_PART + b"--xx--\r\n"))
        assert decoding.wait(20)
    eventually(lambda: 'status="499"' in running.client.get("/metrics").text)
    assert running.service.gate.inside == 1  # its thread is at work
    decoded.set()
    eventually(lambda: running.service.gate.inside == 0)
    assert running.post("somebody else").status_code == 200
    assert brake.batches == [["somebody else"]]


def test_a_client_that_leaves_while_the_model_runs_does_not_disturb_those_in_its_batch(
    scripted: ScriptedRecognizer, serve: Serve
) -> None:
    running = serve(scripted, max_batch_padding=10)  # two posts as unlike as these run together
    brake = Brake(scripted)
    with connect(running) as first, ThreadPoolExecutor(1) as pool, connect(running) as second:
        first.sendall(raw_post(TEXT_PART + b"--xx--\r\n"))
        brake.wait_for_batch()  # what comes now waits together
        second.sendall(raw_post(TEXT_PART + b"--xx--\r\n"))
        neighbour = pool.submit(running.post, "Kawhi Leonard")
        eventually(lambda: running.service.engine.depth == 2)
        brake.release(1)
        brake.wait_for_batch(2)
        second.close()
        eventually(lambda: 'status="499"' in running.client.get("/metrics").text)
        brake.release()
        assert b" 200 OK" in first.recv(4096)
        answer = neighbour.result()
    assert brake.batches == [["hello"], ["hello", "Kawhi Leonard"]]
    expected = scripted.recognize("Kawhi Leonard")
    assert [(e["start"], e["end"]) for e in answer.json()["entities"]] == [(e.start, e.end) for e in expected]
    eventually(lambda: running.service.gate.inside == 0)


def test_a_client_that_leaves_in_the_middle_of_its_upload_frees_its_place(shared: Running) -> None:
    with connect(shared) as connection:
        connection.sendall(raw_post(TEXT_PART, length=10_000))
        eventually(lambda: shared.service.gate.inside == 1)
    eventually(lambda: shared.service.gate.inside == 0)


def test_an_unforeseen_exception_is_a_problem_and_its_log_repeats_nothing_of_the_post(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(scripted)

    def broken(text: str, *rest: object, **options: object) -> object:
        raise KeyError(text)

    monkeypatch.setattr(scripted, "prepare", broken)
    with capture_logs() as logs:
        answer = running.post("private words")
        eventually(lambda: any(entry["event"] == "request" for entry in logs))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"]
    assert logs[0]["request_id"] == answer.headers["x-request-id"]
    assert logs[0].pop("exc_info")  # of which the log names type and place, see test_logs
    assert "private words" not in json.dumps(logs)


def test_the_log_of_a_request_has_its_route_and_times_and_nothing_that_was_sent(shared: Running) -> None:
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
