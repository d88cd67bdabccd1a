import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from model import InvalidPost, Post
from service.inference.image_cache import ImageCache
from service.inference.limiter import Limiter, Permit
from service.inference.preprocessing import Preprocessor
from tests.service.conftest import ScriptedRecognizer


class File(bytes):
    """An image that the garbage collector can count."""


@pytest.fixture
def decode() -> threading.Event:
    """Images are decoded once it is set."""
    return threading.Event()


@pytest.fixture
def preprocessor(scripted: ScriptedRecognizer, decode: threading.Event) -> Iterator[Preprocessor]:
    scripted.before_prepare = lambda _, image: image is None or decode.wait(20)
    preprocessor = Preprocessor(scripted, workers=1, cache=ImageCache(0), max_pixels=1000)
    yield preprocessor
    preprocessor.close()


def permit() -> Permit:
    return Limiter(8, 2**30).acquire(0)


def test_text_does_not_wait_for_images(preprocessor: Preprocessor, decode: threading.Event) -> None:
    async def ask() -> Post:
        image = asyncio.ensure_future(preprocessor.preprocess("hi", b"an image", permit()))
        await asyncio.sleep(0)
        text = await asyncio.wait_for(preprocessor.preprocess("Kawhi Leonard", None, permit()), 10)
        decode.set()
        with pytest.raises(InvalidPost):
            await image
        return text.post

    assert asyncio.run(ask()).source == "Kawhi Leonard"


def test_canceled_post_frees_its_image(preprocessor: Preprocessor, decode: threading.Event) -> None:
    async def ask() -> int:
        first = asyncio.ensure_future(preprocessor.preprocess("hi", b"an image", permit()))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(preprocessor.preprocess("hi", File(), permit())) for _ in range(3)]
        await asyncio.sleep(0)
        while waiting:
            waiting.pop().cancel()
        await asyncio.sleep(0.01)
        gc.collect()
        kept = sum(type(thing) is File for thing in gc.get_objects())
        decode.set()
        with pytest.raises(InvalidPost):
            await first
        return kept

    assert asyncio.run(ask()) == 0


def test_depth_counts_posts_that_no_thread_has(preprocessor: Preprocessor, decode: threading.Event) -> None:
    async def ask() -> list[int]:
        posts = [asyncio.ensure_future(preprocessor.preprocess("hi", b"an image", permit())) for _ in range(4)]
        await asyncio.sleep(0.01)
        depths = [preprocessor.depth]
        posts.pop().cancel()
        await asyncio.sleep(0.01)
        depths.append(preprocessor.depth)
        decode.set()
        await asyncio.gather(*posts, return_exceptions=True)
        return [*depths, preprocessor.depth]

    assert asyncio.run(ask()) == [3, 2, 0]
