"""The fake device in the real service, and behind the real HAProxy."""

import asyncio
import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.benchmarks.serving.fake_device import FakeDeviceRecognizer
from tests.benchmarks.serving.posts import Post
from tests.benchmarks.serving.processes import proxy
from tests.benchmarks.serving.wire import Connection, Request
from tests.service.conftest import Running, form, serving


@pytest.fixture(scope="module")
def recognizer() -> FakeDeviceRecognizer:
    return FakeDeviceRecognizer.from_pretrained()


@pytest.fixture(scope="module")
def running(recognizer: FakeDeviceRecognizer) -> Iterator[Running]:
    with serving(recognizer) as running:
        yield running


def test_fake_device_takes_time_but_no_processor(
    recognizer: FakeDeviceRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer, "seconds_per_post", 0.05)
    posts = [recognizer.prepare("Kawhi Leonard is in Toronto")] * 4
    begun, processor = time.perf_counter(), time.thread_time()
    answers = recognizer.run(posts)
    assert time.perf_counter() - begun >= 4 * 0.05
    assert time.thread_time() - processor < 0.05
    assert [(entity.word, entity.start, entity.end) for entity in answers[3]] == [("Kawhi", 0, 5), ("Leonard", 6, 13)]


def test_posts_go_the_services_real_way(running: Running, jpeg: bytes) -> None:
    answer = running.post("Kawhi Leonard", jpeg).json()
    assert [entity["word"] for entity in answer["entities"]] == ["Kawhi", "Leonard"]
    assert answer["image_used"] is True
    assert running.post(image=jpeg[:2000]).json()["code"] == "unreadable_image"
    assert running.client.get("/health").json()["device"] == "meta"


def test_proxy_reaches_the_given_port(running: Running) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    port = running.client.base_url.port
    assert port is not None
    with proxy([port]) as front:
        answer = httpx.post(f"http://127.0.0.1:{front}/recognize", files=form("Kawhi Leonard"))
    assert answer.status_code == 200


async def _ask(port: int, post: Post) -> list[int]:
    connection = Connection(port)
    statuses = [(await connection.ask(Request.of(post).stamped(stamp))).status for stamp in range(2)]
    connection.close()
    return statuses


def test_generator_sends_posts_without_photos(running: Running) -> None:
    port = running.client.base_url.port
    assert port is not None
    assert asyncio.run(_ask(port, Post("Kawhi Leonard", b""))) == [200, 200]
