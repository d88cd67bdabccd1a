from pathlib import Path

import httpx
import pytest

from tests.service.conftest import API_KEY, Brake, Running, ScriptedRecognizer, Serve, eventually

ORIGIN = "http://localhost:3000"


@pytest.fixture
def open_to_pages(scripted: ScriptedRecognizer, serve: Serve, tmp_path: Path) -> Running:
    keys = tmp_path / "keys"
    keys.write_text(f"tests:{API_KEY}")
    return serve(scripted, cors_origins=f"{ORIGIN},https://a.example", api_keys_file=keys, deadline_seconds=0.5)


def preflight(running: Running, origin: str, headers: str = "authorization,content-type") -> httpx.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    return running.client.options("/recognize/batch", headers={"Origin": origin, **asked})


def post(running: Running, *, key: str = API_KEY, origin: str = ORIGIN, text: str = "hi") -> httpx.Response:
    headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
    return running.client.post("/recognize", json={"text": text}, headers=headers)


def test_no_origin_is_allowed_by_default(shared: Running) -> None:
    assert preflight(shared, ORIGIN).status_code == 405
    answer = shared.client.get("/info", headers={"Origin": ORIGIN})
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_preflight_needs_no_key(open_to_pages: Running) -> None:
    answer = preflight(open_to_pages, ORIGIN, "authorization,content-type,x-request-id")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert {"Authorization", "Content-Type", "X-Request-ID"} <= set(
        answer.headers["access-control-allow-headers"].split(", ")
    )
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["x-request-id"]


def test_other_origins_and_headers_are_not_allowed(open_to_pages: Running) -> None:
    assert preflight(open_to_pages, "https://b.example").status_code == 400
    assert preflight(open_to_pages, ORIGIN, "x-other").status_code == 400
    assert "access-control-allow-origin" not in post(open_to_pages, origin="https://b.example").headers


def test_page_may_read_answers_and_errors(open_to_pages: Running) -> None:
    """Without the headers a browser tells the page only that something failed."""
    answers = [post(open_to_pages), post(open_to_pages, key="wrong"), post(open_to_pages, text="x" * 400_000)]
    assert [answer.status_code for answer in answers] == [200, 401, 413]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert set(answer.headers["access-control-expose-headers"].split(", ")) == {
            "X-Request-ID",
            "Server-Timing",
            "Retry-After",
        }
        assert "Origin" in answer.headers["vary"]


def test_page_may_read_errors_of_the_middleware(open_to_pages: Running, scripted: ScriptedRecognizer) -> None:
    brake = Brake(scripted)
    late = post(open_to_pages)
    assert (late.status_code, late.headers["access-control-allow-origin"]) == (504, ORIGIN)
    brake.release()
    eventually(lambda: open_to_pages.limiter.permits_held == 0)

    def broken(*_: object) -> None:
        raise KeyError

    scripted.before_prepare = broken
    failed = post(open_to_pages)
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (500, ORIGIN)


def test_star_allows_any_origin(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, cors_origins="*")
    assert preflight(running, "https://anything.example").status_code == 200
    assert post(running).headers["access-control-allow-origin"] == "*"
