import asyncio
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from structlog.testing import capture_logs

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually


def statuses(running: Running) -> tuple[int, int, int]:
    """Of the live probe, the ready probe and both together."""
    live, ready, both = (running.client.get(f"/health{path}").status_code for path in ("/live", "/ready", ""))
    return live, ready, both


def test_warm_service_is_live_and_ready(shared: Running) -> None:
    assert statuses(shared) == (200, 200, 200)
    health = shared.client.get("/health").json()
    assert health == {"status": "ok", "model": {"name": "tiny", "revision": "r1"}, "device": "cpu"}


def test_warming_service_is_live_but_not_ready(scripted: ScriptedRecognizer, serve: Serve) -> None:
    brake = Brake(scripted)
    running = serve(scripted, wait=False)
    brake.wait_for_batch()
    assert statuses(running) == (200, 503, 503)
    problem = running.client.get("/health").json()
    assert problem["code"] == "not_ready"
    assert problem["model"] == {"name": "tiny", "revision": "r1"}
    assert problem["live"] is True
    answer = running.post()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "warming up" in answer.json()["detail"]
    brake.release()
    eventually(lambda: statuses(running) == (200, 200, 200))


def test_draining_finishes_accepted_posts_only(running: Running, brake: Brake) -> None:
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(running.post)
        brake.wait_for_batch()
        running.sigterm()
        assert statuses(running) == (200, 503, 503)
        refused = running.post()
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "shutting down" in refused.json()["detail"]
        brake.release()
        assert accepted.result().status_code == 200


def test_shutdown_delay_still_accepts_posts(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, shutdown_delay_seconds=1)
    running.sigterm()
    assert statuses(running) == (200, 503, 503)
    assert running.post().status_code == 200
    eventually(lambda: running.lifecycle.draining)


def test_ctrl_c_and_second_signal_skip_the_delay(
    make_recognizer: Callable[[], ScriptedRecognizer], serve: Serve
) -> None:
    interrupted, terminated = (serve(make_recognizer(), shutdown_delay_seconds=60) for _ in range(2))
    interrupted.server.handle_exit(signal.SIGINT, None)
    assert interrupted.lifecycle.draining
    terminated.sigterm()
    assert not terminated.server.should_exit
    terminated.sigterm()
    assert terminated.server.should_exit


def test_unfinished_posts_get_503_after_draining(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, drain_seconds=0.1)
    brake = Brake(scripted)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(running.post)
        brake.wait_for_batch()
        running.sigterm()
        answer = accepted.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        brake.release()


def test_unfinished_upload_is_logged_at_the_end(running: Running) -> None:
    """The end of the event loop cut off the answer's last part, with a traceback instead of the request's entry."""
    with capture_logs() as logs, running.connect() as slow:
        slow.sendall(b"POST /recognize HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: 1000\r\n\r\n{")
        eventually(lambda: running.limiter.permits_held == 1)
        running.sigterm()
        running.sigterm()
        assert b" 503 " in slow.recv(4096)
        eventually(lambda: len(logs) == 1)
    assert (logs[0]["event"], logs[0]["status"]) == ("request", 503)


def test_service_without_model_thread_is_not_live(scripted: ScriptedRecognizer) -> None:
    """A real server would exit at once, see test_serve; here the lifespan, which starts the thread, does not run."""
    app = create_app(Settings(), scripted)

    async def ask() -> list[httpx.Response]:
        transport: Any = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return [await client.get(path) for path in ("/health/live", "/health/ready", "/health")]

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert answers[2].json()["live"] is False


def test_health_does_not_wait_for_the_model(running: Running, scripted: ScriptedRecognizer) -> None:
    def busy(_: object) -> None:  # holds the interpreter like a batch of real size
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            sum(range(1000))

    scripted.before_run = busy
    with ThreadPoolExecutor(4) as pool:
        posts = [pool.submit(running.post) for _ in range(4)]
        eventually(lambda: running.limiter.permits_held > 0)
        for _ in range(5):
            started = time.monotonic()
            assert running.client.get("/health/live").status_code == 200
            assert time.monotonic() - started < 0.4
        assert [post.result().status_code for post in posts] == [200] * 4
