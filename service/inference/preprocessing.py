"""Decodes images and tokenizes texts in threads of their own, apart from the event loop and the model."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from model import Post, Recognizer
from service.inference.image_cache import ImageCache
from service.inference.limiter import Permit
from service.runtime import set_torch_threads


@dataclass(frozen=True, slots=True)
class PreprocessedPost:
    """A post ready for the model, and its image's key in the cache; empty without an image."""

    post: Post
    image_key: bytes = b""


class Preprocessor:
    """Turns text and image bytes into posts; the limiter bounds how many can wait.

    Args:
        recognizer: provides :meth:`~model.Recognizer.prepare`.
        workers: threads for posts with an image; those without have one of their own.
        cache: holds the features of images that need no decoding.
        max_pixels: images with more pixels are refused.
    """

    def __init__(self, recognizer: Recognizer, *, workers: int, cache: ImageCache, max_pixels: int) -> None:
        self._recognizer = recognizer
        self._cache = cache
        self._max_pixels = max_pixels
        # one torch thread each: an image is too small to split, and the model needs the cores
        self._image_pool = ThreadPoolExecutor(workers, "decode", initializer=set_torch_threads, initargs=(1,))
        self._text_pool = ThreadPoolExecutor(1, "tokenize")
        self._submitted: set[Future[PreprocessedPost]] = set()

    @property
    def depth(self) -> int:
        """Posts that no thread works on yet."""
        return sum(not (work.running() or work.done()) for work in list(self._submitted))

    async def preprocess(self, text: str, image: bytes | None, permit: Permit) -> PreprocessedPost:
        """Tokenize the text and decode the image; raises :class:`model.InvalidPost`."""
        pool = self._text_pool if image is None else self._image_pool
        arguments = [(text, image)]
        work = pool.submit(lambda: self._preprocess(*arguments.pop()))
        work.add_done_callback(lambda _: arguments.clear())  # else canceled work keeps the image until a thread is free
        permit.hold_until_done(work)
        self._submitted.add(work)
        try:
            return await asyncio.wrap_future(work)
        finally:
            self._submitted.discard(work)
            del work  # breaks a cycle (exception, traceback, frame, future) that would keep the image in memory

    def _preprocess(self, text: str, image: bytes | None) -> PreprocessedPost:
        if image is None:
            return PreprocessedPost(self._recognizer.prepare(text))
        key = self._cache.key(image)
        features = self._cache.look_up(key)
        if features is not None:
            return PreprocessedPost(replace(self._recognizer.prepare(text), image_features=features), key)
        return PreprocessedPost(self._recognizer.prepare(text, image, max_pixels=self._max_pixels), key)

    def close(self) -> None:
        """Stop the threads after their current posts; posts that have not begun are dropped."""
        for pool in (self._image_pool, self._text_pool):
            pool.shutdown(wait=False, cancel_futures=True)
