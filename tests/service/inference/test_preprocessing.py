import asyncio
import gc
import threading

import pytest

from model import InvalidPost, Post
from service.http.upload import Upload
from service.inference.image_cache import ImageCache
from service.inference.limiter import Gate, Slot
from service.inference.preprocessing import Preparation
from tests.service.conftest import ScriptedRecognizer


class SlowImages(ScriptedRecognizer):
    """Its photos are decoded when they are let go."""

    let_go: threading.Event

    def prepare(self, text: str, image: object = None, *, max_pixels: int = 0) -> Post:
        if image is not None:
            assert self.let_go.wait(20)
        return super().prepare(text, image, max_pixels=max_pixels)  # type: ignore[arg-type]


@pytest.fixture
def slow(scripted: ScriptedRecognizer) -> SlowImages:
    scripted.__class__ = SlowImages
    assert isinstance(scripted, SlowImages)
    scripted.let_go = threading.Event()
    return scripted


def slot() -> Slot:
    return Gate(8, 2**30).enter(0)


def uploads() -> list[Upload]:
    gc.collect()
    return [own for own in gc.get_objects() if type(own) is Upload]


def test_a_text_does_not_wait_for_a_image(slow: SlowImages) -> None:
    async def ask() -> Post:
        preparation = Preparation(slow, workers=1, cache=ImageCache(0), max_pixels=1000)
        image = asyncio.ensure_future(preparation.prepare(Upload("hi", b"a photo"), slot()))
        await asyncio.sleep(0)
        text = await asyncio.wait_for(preparation.prepare(Upload("Kawhi Leonard", None), slot()), 10)
        slow.let_go.set()
        with pytest.raises(InvalidPost):
            await image
        preparation.close()
        return text.post

    assert asyncio.run(ask()).source == "Kawhi Leonard"


def test_a_image_that_was_given_up_before_its_turn_leaves_no_bytes_behind(slow: SlowImages) -> None:
    async def ask() -> int:
        preparation = Preparation(slow, workers=1, cache=ImageCache(0), max_pixels=1000)
        first = asyncio.ensure_future(preparation.prepare(Upload("hi", b"a photo"), slot()))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(preparation.prepare(Upload("hi", b"another"), slot())) for _ in range(3)]
        await asyncio.sleep(0)
        while waiting:
            waiting.pop().cancel()
        await asyncio.sleep(0.01)
        kept = sum(upload.image == b"another" for upload in uploads())
        slow.let_go.set()
        with pytest.raises(InvalidPost):
            await first
        preparation.close()
        return kept

    assert asyncio.run(ask()) == 0
