import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from model import Post
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually
from tests.service.test_metrics import scrape, value

PATH = "/recognize/batch"
TEXT = "RT @NBA: Kawhi Leonard 🏀\njoins Toronto"


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def ask(running: Running, *posts: Any, **options: Any) -> httpx.Response:
    return running.client.post(PATH, json={"posts": posts}, **options)


def results(running: Running, *posts: Any, **options: Any) -> list[dict[str, Any]]:
    answer = ask(running, *posts, **options)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    assert len(found) == len(posts)
    return found


def codes(found: Sequence[dict[str, Any]]) -> list[str | None]:
    return [result["error"]["code"] if "error" in result else None for result in found]


def raw_batch(count: int) -> bytes:
    body = json.dumps({"posts": [{"text": f"post {number} " + "x " * 50} for number in range(count)]}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def test_posts_are_answered_as_alone(shared: Running, jpeg: bytes) -> None:
    alone = shared.client.post("/recognize", json={"text": TEXT, "image": encoded(jpeg)}).json()
    sent = ask(shared, {"id": 7, "text": TEXT, "image": encoded(jpeg)}, {"text": TEXT})
    assert sent.headers["X-Posts"] == "2"
    answer = sent.json()
    assert set(answer) == {"results", "model", "request_id"}
    assert answer["model"] == alone["model"]
    with_image, without = answer["results"]
    assert set(with_image) == {"id", "entities", "image_used"}
    assert (with_image["id"], with_image["image_used"]) == (7, True)
    assert [(e["entity_group"], e["start"], e["end"]) for e in with_image["entities"]] == [
        (e["entity_group"], e["start"], e["end"]) for e in alone["entities"]
    ]
    assert set(without) == {"entities", "image_used"}
    assert without["image_used"] is False


def test_answers_are_in_the_order_of_posts(shared: Running) -> None:
    ids = [number if number % 3 else {"n": [number, None]} for number in range(32)]
    posts = [{"id": identity, "text": "Kawhi Leonard " * (1 + n % 5)} for n, identity in enumerate(ids)]
    assert [result["id"] for result in results(shared, *posts)] == ids


def test_explain_works_for_every_post(shared: Running, jpeg: bytes) -> None:
    first, second = results(shared, {"text": TEXT, "image": encoded(jpeg)}, {"text": TEXT}, params={"explain": "true"})
    assert first["entities"]
    assert all(set(entity["attention"]) == {"global", "regions"} for entity in first["entities"])
    assert not any("attention" in entity for entity in second["entities"])


def test_null_id_is_repeated_missing_one_not(shared: Running) -> None:
    given, missing = results(shared, {"id": None, "text": "hi"}, {"text": "hi"})
    assert given["id"] is None
    assert "id" not in missing


def test_bad_posts_cost_no_other(shared: Running) -> None:
    found = results(
        shared,
        {"text": "Kawhi Leonard"},
        {"text": 5},
        {"id": "a", "text": "hi", "image": encoded(b"no image")},
        {"text": "x" * 1001},
        {"text": " "},
        {"image": ""},
        {},
        {"id": 1, "text": "hi", "txet": "hi"},
        "hi",
        {"text": "hi", "image": encoded(bytes(200_001))},
        {"text": "Toronto"},
    )
    assert codes(found) == [
        None,
        "malformed_request",
        "unsupported_image",
        "text_too_long",
        "empty_text",
        "unreadable_image",
        "missing_text",
        "malformed_request",
        "malformed_request",
        "image_too_large",
        None,
    ]
    assert found[2]["id"] == "a"
    assert found[7] == {
        "id": 1,
        "error": {
            "type": "urn:smner:problem:malformed_request",
            "title": "The request is malformed",
            "status": 400,
            "detail": "the post has a key 'txet'; allowed are id, text, image",
            "code": "malformed_request",
        },
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_request"),
        (b'{"posts": [{"text": "hi"}', 400, "malformed_request"),
        (b'{"text": "hi"}', 400, "malformed_request"),
        (b'{"posts": []}', 400, "malformed_request"),
        (json.dumps({"posts": [{"text": "hi"}] * 33}).encode(), 400, "malformed_request"),
        (b" " * 300_001, 413, "body_too_large"),
    ],
)
def test_problem_of_the_whole_is_one_problem(shared: Running, body: bytes, status: int, code: str) -> None:
    answer = shared.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "bad", [b'"id": 1e400', b'"text": "caf\xe9"', b'"a": [' + b"{}," * 3000 + b"0]", b'"text": tru']
)
def test_post_that_is_no_json_costs_no_other(shared: Running, bad: bytes) -> None:
    """It was a problem of the whole batch."""
    body = b'{"posts": [{"id": 1, "text": "Toronto"}, {' + bad + b'}, {"id": 3, "text": "Toronto"}]}'
    answer = shared.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    found = answer.json()["results"]
    assert codes(found) == [None, "malformed_request", None]
    assert [result.get("id") for result in found] == [1, None, 3]


def test_form_is_no_batch(shared: Running) -> None:
    answer = shared.client.post(PATH, files=[("text", (None, "hi"))])
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_posts_are_counted_as_their_own(running: Running, jpeg: bytes) -> None:
    found = results(running, {"text": TEXT, "image": encoded(jpeg)}, {"text": "Toronto"}, {"text": ""}, {"text": " "})
    samples = scrape(running)
    assert value(samples, "smner_requests_total", route=PATH, method="POST", status="200") == 1
    assert value(samples, "smner_request_seconds_count", route=PATH) == 1
    assert value(samples, "smner_posts_total", image="used") == 1
    assert value(samples, "smner_posts_total", image="absent") == 1
    assert value(samples, "smner_rejected_total", code="empty_text") == 2
    assert value(samples, "smner_stage_seconds_count", stage="receive") == 1
    for stage in ("decode", "queue", "model"):
        assert value(samples, "smner_stage_seconds_count", stage=stage) == 2
    entities = sum(len(result.get("entities", [])) for result in found)
    assert sum(v for (name, _), v in samples.items() if name == "smner_entities_total") == entities


def test_log_counts_the_posts(shared: Running) -> None:
    with capture_logs() as logs:
        results(shared, {"text": "private words"}, {"text": ""})
        eventually(lambda: len(logs) > 0)
    (entry,) = logs
    assert {"route": PATH, "status": 200, "posts": 2, "failed": 1}.items() <= entry.items()
    assert "private" not in json.dumps(logs)


def test_batch_leaves_room_for_other_clients(scripted: ScriptedRecognizer, serve: Serve) -> None:
    """Of 16 places a batch takes two and all batches take eight, so that a lone post is answered meanwhile."""
    running = serve(scripted, max_pending_posts=16)
    brake = Brake(scripted)
    with ThreadPoolExecutor(8) as pool:
        batches = [pool.submit(results, running, *[{"text": "hi"}] * 32) for _ in range(6)]
        brake.wait_for_batch()
        uploads_and_posts = 6 + 8
        eventually(lambda: running.limiter.permits_held == uploads_and_posts)
        time.sleep(0.1)
        assert running.limiter.permits_held == uploads_and_posts
        lone = pool.submit(running.post)
        eventually(lambda: running.limiter.permits_held == uploads_and_posts + 1)
        brake.release()
        assert lone.result().status_code == 200
        assert [codes(batch.result()) for batch in batches] == [[None] * 32] * 6
    eventually(lambda: running.limiter.permits_held == 0)
    assert running.limiter.bytes_held == 0


def test_lone_post_overtakes_the_rest_of_a_batch(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, max_pending_posts=16, max_batch_tokens=128, max_batch_padding=0)
    brake = Brake(scripted)
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(results, running, *[{"text": "hi"}] * 32)
        brake.wait_for_batch()
        lone = pool.submit(running.post, "a lone post")
        waiting = 2 - len(brake.batches[0])  # two of the batch have a place, and one or both may run
        eventually(lambda: running.engine.depth == waiting + 1)
        brake.release()
        assert lone.result().status_code == 200
        assert codes(batch.result()) == [None] * 32
    order = [text for texts in brake.batches for text in texts]
    assert order.index("a lone post") <= 3


def test_posts_wait_for_a_place(scripted: ScriptedRecognizer, serve: Serve) -> None:
    """They are not refused when others fill the queue, since the client could only send the whole batch again."""
    running = serve(scripted, max_pending_posts=1)
    brake = Brake(scripted)
    brake.release()
    assert codes(results(running, *[{"text": "hi"}] * 4)) == [None] * 4


def test_late_posts_fail_alone(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, deadline_seconds=0.8, max_pending_posts=8)
    warm = len(results(running, {"text": "hi"}))

    def stop_at(posts: Sequence[Post]) -> None:
        time.sleep(1.2 if any("late" in post.source for post in posts) else 0)

    scripted.before_run = stop_at
    answer = ask(running, {"id": 1, "text": "hi"}, {"id": 2, "text": "late"}, {"id": 3, "text": "hi"})
    assert warm == 1
    assert answer.status_code == 200
    assert codes(answer.json()["results"]) == [None, "deadline_exceeded", "deadline_exceeded"]
    assert "the limit is 0.8 s" in answer.json()["results"][1]["error"]["detail"]
    eventually(lambda: running.limiter.permits_held == 0)


def test_disconnect_withdraws_all_posts(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, max_batch_tokens=128)  # two of these posts
    brake = Brake(scripted)
    with running.connect() as client:
        client.sendall(raw_batch(32))
        brake.wait_for_batch()
        eventually(lambda: running.limiter.permits_held == 1 + 8)
        client.close()
        running_posts = len(brake.batches[0])  # which cannot be stopped
        eventually(lambda: running.limiter.permits_held == running_posts)
        assert running_posts < 8
        assert running.engine.depth == 0
        brake.release()
    eventually(lambda: running.limiter.permits_held == 0)
    assert running.limiter.bytes_held == 0
    assert len(brake.batches) == 1
    assert running.post().status_code == 200
    assert 'route="/recognize/batch",status="499"' in running.client.get("/metrics").text


def test_disconnect_in_the_upload_releases_the_permit(shared: Running) -> None:
    with shared.connect() as client:
        client.sendall(raw_batch(32)[:-10])
        eventually(lambda: shared.limiter.permits_held == 1)
    eventually(lambda: shared.limiter.permits_held == 0)
    assert shared.limiter.bytes_held == 0


def test_failure_of_the_model_costs_one_post(running: Running, scripted: ScriptedRecognizer) -> None:
    def fail(posts: Sequence[Post]) -> None:
        if any("private" in post.source for post in posts):
            raise KeyError

    scripted.before_run = fail
    with capture_logs() as logs:
        found = results(running, {"text": "Toronto"}, {"text": "private words"}, {"text": "Toronto"})
    assert codes(found) == [None, "internal_error", None]
    assert any(entry["log_level"] == "error" for entry in logs)
    assert "private words" not in json.dumps([{**entry, "exc_info": ""} for entry in logs])


def test_unexpected_exception_costs_one_post(running: Running, scripted: ScriptedRecognizer) -> None:
    def broken(text: str, _: object) -> None:
        if "private" in text:
            raise KeyError(text)

    scripted.before_prepare = broken
    with capture_logs() as logs:
        found = results(running, {"text": "Toronto"}, {"text": "private words"})
    assert codes(found) == [None, "internal_error"]
    assert logs[0]["event"] == "unhandled exception"
    assert "private" not in json.dumps(found)
