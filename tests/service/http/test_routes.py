import base64
import gzip
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from service.settings import Settings
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually, form

TEXT = "RT @NBA: Kawhi Leonard 🏀 joins Toronto"


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document, whose other members are checked."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    return answer.status_code, problem["code"]


def test_text_alone_is_answered(shared: Running) -> None:
    answer = shared.post(TEXT)
    assert answer.status_code == 200
    body = answer.json()
    assert body["image_used"] is False
    assert body["model"] == {"name": "tiny", "revision": "r1"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["entities"]
    for entity in body["entities"]:
        assert set(entity) == {"entity_group", "word", "start", "end", "score"}
        assert TEXT[entity["start"] : entity["end"]] == entity["word"]
        assert 0 < entity["score"] <= 1


def test_text_with_image_is_answered_like_the_recognizer(
    shared: Running, scripted: ScriptedRecognizer, jpeg: bytes
) -> None:
    body = shared.post(TEXT, jpeg).json()
    expected = scripted.recognize(TEXT, jpeg)
    assert body["image_used"] is True
    assert [(e["entity_group"], e["start"], e["end"]) for e in body["entities"]] == [
        (e.entity_group, e.start, e.end) for e in expected
    ]


def test_explained_entities_have_all_types_scores(shared: Running) -> None:
    entities = shared.post(TEXT, params={"explain": "true"}).json()["entities"]
    assert entities
    for entity in entities:
        assert set(entity["scores"]) == {"PER", "LOC", "ORG", "MISC"}
        assert entity["scores"][entity["entity_group"]] == entity["score"] == round(entity["score"], 4)


def test_text_longer_than_the_model_reads_is_answered(shared: Running) -> None:
    """It has 128 positions."""
    text = "Kawhi Leonard\n" * 60
    entities = shared.post(text).json()["entities"]
    assert entities[-1]["end"] > 700
    assert all(text[e["start"] : e["end"]] == e["word"] and "\n" not in e["word"] for e in entities)


def test_explained_attention_sums_to_one(shared: Running, jpeg: bytes) -> None:
    body = shared.post(TEXT, jpeg, params={"explain": "true"}).json()
    assert body["entities"]
    for entity in body["entities"]:
        attention = entity["attention"]
        assert set(attention) == {"global", "regions"}
        assert [len(row) for row in attention["regions"]] == [2, 2]
        assert attention["global"] + sum(map(sum, attention["regions"])) == pytest.approx(1, abs=5e-4)


def test_post_without_image_explains_nothing(shared: Running) -> None:
    body = shared.post(TEXT, params={"explain": "true"}).json()
    assert all("attention" not in entity for entity in body["entities"])


def test_all_four_image_formats_are_read(shared: Running, image: Image.Image) -> None:
    for name in ("JPEG", "PNG", "WEBP", "GIF"):
        buffer = io.BytesIO()
        image.resize((64, 64)).save(buffer, name)
        assert shared.post(TEXT, buffer.getvalue()).json()["image_used"] is True


@pytest.mark.parametrize(
    ("parts", "status", "code", "limit_and_value"),
    [
        (form(b"caf\xe9"), 400, "malformed_request", []),
        ([*form(), *form()], 400, "malformed_request", []),
        ([*form(), ("photo", ("a.jpg", b"x"))], 400, "malformed_request", []),
        (form("hi", b"x" * 250_000), 413, "image_too_large", ["200000", "at least 2"]),
        (form("hi", png(1001, 1000)), 413, "image_too_large", ["1000000", "1001000"]),
        (form("hi", b"x" * 400_000), 413, "body_too_large", ["300000", "400"]),
        (form("hi", b"%PDF-1.7"), 415, "unsupported_image", []),
        (form(None, b"x"), 422, "missing_text", []),
        (form(" \n"), 422, "empty_text", []),
        (form("x" * 1001), 422, "text_too_long", ["1000", "1001"]),
        (form("hi", png(64, 64)[:-40]), 422, "unreadable_image", []),
        (form("hi", b""), 422, "unreadable_image", []),
    ],
)
def test_invalid_post_is_refused(
    client: httpx.Client, parts: list[Any], status: int, code: str, limit_and_value: list[str]
) -> None:
    answer = client.post("/recognize", files=parts)
    assert refused(answer) == (status, code)
    assert all(number in answer.json()["detail"] for number in limit_and_value)


def test_other_media_types_are_refused(client: httpx.Client) -> None:
    assert refused(client.post("/recognize", data={"text": "hi"})) == (415, "unsupported_media_type")
    assert refused(client.post("/recognize")) == (415, "unsupported_media_type")


def test_json_is_answered_like_the_form(client: httpx.Client, jpeg: bytes) -> None:
    post = {"text": TEXT, "image": base64.b64encode(jpeg).decode()}
    answers = [client.post("/recognize", json=post), client.post("/recognize", files=form(TEXT, jpeg))]
    (one, other) = ([(e["entity_group"], e["start"], e["end"]) for e in a.json()["entities"]] for a in answers)
    assert one == other
    assert one
    assert answers[0].json()["image_used"] is True


def test_largest_photo_fits_into_a_json_body(scripted: ScriptedRecognizer, serve: Serve) -> None:
    limits = Settings()
    running = serve(scripted, max_body_bytes=limits.max_body_bytes, max_image_bytes=limits.max_image_bytes)
    for size, code in ((limits.max_image_bytes, "unsupported_image"), (limits.max_image_bytes + 1, "image_too_large")):
        image = base64.encodebytes(bytes(size)).decode()
        assert running.client.post("/recognize", json={"text": "hi", "image": image}).json()["code"] == code


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_request"),
        (b'{"text": "hi", "photo": ""}', 400, "malformed_request"),
        (b'{"text": "hi", "image": "data:image/png;base64,AAAA"}', 400, "malformed_request"),
        (b'{"text": "hi", "image": "' + b"A" * 270_000 + b'"}', 413, "image_too_large"),
        (b'{"text": "' + b"x" * 300_000 + b'"}', 413, "body_too_large"),
        (b'{"text": "hi", "image": "AAAA"}', 415, "unsupported_image"),
        (b"{}", 422, "missing_text"),
        (b'{"text": ""}', 422, "empty_text"),
        (b'{"text": "' + b"x" * 1001 + b'"}', 422, "text_too_long"),
        (b'{"text": "hi", "image": ""}', 422, "unreadable_image"),
    ],
)
def test_invalid_json_post_is_refused(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    answer = client.post("/recognize", content=body, headers={"Content-Type": "application/json"})
    assert refused(answer) == (status, code)


@pytest.mark.parametrize("path", ["/recognize", "/recognize/batch"])
def test_compressed_body_is_refused_by_name(client: httpx.Client, path: str) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = client.post(path, content=gzip.compress(b'{"text": "hi"}'), headers=headers)
    assert refused(answer) == (415, "unsupported_media_type")
    assert "Content-Encoding is 'gzip'" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/recognize", "/recognize/batch"])
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("explain=perhaps", "explain: Input should be a valid boolean"),
        ("explian=true", "a parameter 'explian'; allowed is explain"),
        ("explain=true&Explain=true", "'Explain'"),
        ("explain=true&explain=true", "the parameter explain more than once"),
        ("text=hi", "'text'"),
        ("=", "''"),
    ],
)
def test_invalid_query_is_malformed(client: httpx.Client, path: str, query: str, detail: str) -> None:
    """A misspelt parameter was ignored, and so were all values but the last."""
    post = {"text": "hi"}
    answer = client.post(f"{path}?{query}", json=post if path == "/recognize" else {"posts": [post]})
    assert refused(answer) == (400, "malformed_request")
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("POST", "/recognize/", 404, "not_found"),
        ("GET", "/recognize", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
    ],
)
def test_unknown_path_or_method_is_a_problem(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert refused(answer) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("size", [1_000_000, 5_000_000])
def test_chunked_upload_is_stopped_at_the_limit(client: httpx.Client, size: int) -> None:
    """The answer was lost, because closing the connection of a client that is still sending resets it."""

    def chunks() -> Iterator[bytes]:
        yield b'--xx\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
        for _ in range(size // 10_000):
            yield b"y" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=xx"}
    answer = client.post("/recognize", content=chunks(), headers=headers)
    assert refused(answer) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


def test_small_refused_post_keeps_the_connection(shared: Running) -> None:
    answer = shared.client.post("/recognize", files=[("photo", ("a.jpg", b"x" * 100_000))])
    assert answer.status_code == 400
    assert "connection" not in answer.headers
    assert shared.post().status_code == 200


def test_bad_images_do_not_affect_good_ones(shared: Running, jpeg: bytes) -> None:
    images = [jpeg[: len(jpeg) // 3] if i % 4 == 0 else jpeg for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda image: shared.post(TEXT, image).status_code, images))
    assert statuses == [422 if i % 4 == 0 else 200 for i in range(16)]


def test_post_over_the_limit_gets_retry_after(scripted: ScriptedRecognizer, serve: Serve, jpeg: bytes) -> None:
    running = serve(scripted, max_pending_posts=2)
    brake = Brake(scripted)
    with ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(running.post) for _ in range(2)]
        eventually(lambda: sum(map(len, brake.batches)) + running.engine.depth == 2)  # both received in full
        answer = running.post("one too many", jpeg)
        assert refused(answer) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert "the limit is 2" in answer.json()["detail"]
        assert "receive" not in answer.headers["server-timing"]  # refused before its body was read
        brake.release()
        assert [future.result().status_code for future in accepted] == [200, 200]
    assert running.post().status_code == 200


def test_unannounced_body_needs_room_for_the_largest(scripted: ScriptedRecognizer, serve: Serve) -> None:
    """Bytes count as they arrive, so posts that announce their length fit side by side."""
    size = len(httpx.Request("POST", "http://any", files=form()).read())
    limit = 300_000 + size + size // 2  # room for the largest body and one small post, but not for two
    running = serve(scripted, max_body_bytes=300_000, max_pending_bytes=limit)
    brake = Brake(scripted)
    limiter, request = running.limiter, running.client.build_request("POST", "/recognize", files=form())
    body, headers = request.read(), {"Content-Type": request.headers["content-type"]}

    def ask(content: bytes | Iterator[bytes]) -> httpx.Response:
        return running.client.post("/recognize", content=content, headers=headers)

    with ThreadPoolExecutor(2) as pool:
        announced = pool.submit(ask, body)
        eventually(lambda: limiter.bytes_held == len(body))
        chunked = pool.submit(ask, iter([body]))
        eventually(lambda: limiter.bytes_held == 2 * len(body))
        answer = ask(iter([body]))
        assert refused(answer) == (503, "overloaded")
        assert str(limit) in answer.json()["detail"]
        brake.release()
        assert [announced.result().status_code, chunked.result().status_code] == [200, 200]
    eventually(lambda: limiter.bytes_held == 0)


def test_deadline_covers_the_model(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, deadline_seconds=0.3)
    brake = Brake(scripted)
    answer = running.post()
    assert refused(answer) == (504, "deadline_exceeded")
    assert "the limit is 0.3 s" in answer.json()["detail"]
    assert "model;dur=" in answer.headers["server-timing"]
    assert running.limiter.permits_held == 1  # the model is running it
    brake.release()
    eventually(lambda: running.limiter.permits_held == 0)
    eventually(lambda: running.post().status_code == 200)


def test_info_has_checkpoint_labels_limits_versions(client: httpx.Client) -> None:
    info = client.get("/info").json()
    assert info["model"] == {"name": "tiny", "revision": "r1"}
    assert info["labels"] == ["PER", "LOC", "ORG", "MISC"]
    assert info["limits"]["head_bytes"] == 65_536
    assert info["limits"]["pipelined_requests"] == 16
    assert info["limits"]["body_bytes"] == 300_000
    assert info["limits"]["batch_body_bytes"] == 300_000
    assert info["limits"]["request_posts"] == 32
    assert info["limits"]["text_tokens"] == 128
    assert info["limits"]["batch_padding"] == 0.2  # on a CPU, unless it is set
    assert {"smner", "torch", "python"} <= set(info["versions"])
