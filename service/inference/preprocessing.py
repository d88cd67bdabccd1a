"""Photos are decoded and texts tokenised in a few threads of their own, beside the event loop and the model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from model import Post, Recognizer
from service.http.upload import Upload
from service.inference.image_cache import ImageCache
from service.inference.limiter import Slot
from service.runtime import use_torch_threads


@dataclass(frozen=True, slots=True)
class PreparedPost:
    """A post, and what its photo is kept by in the cache; empty without a photo."""

    post: Post
    image_key: bytes = b""


class Preparation:
    """Bounded pools that make posts out of uploads; admission bounds what waits for them.

    Args:
        recognizer: whose :meth:`~model.Recognizer.prepare` is called.
        workers: threads for photos; posts without one have a thread of their own.
        cache: the photos that need no decoding.
        max_pixels: a photo with more pixels is refused.
    """

    def __init__(self, recognizer: Recognizer, *, workers: int, cache: ImageCache, max_pixels: int) -> None:
        self._recognizer = recognizer
        self._cache = cache
        self._max_pixels = max_pixels
        # one thread for torch in each: a photo is too small to share, and the cores belong to the model
        self._pool = ThreadPoolExecutor(workers, "prepare", initializer=use_torch_threads, initargs=(1,))
        self._texts = ThreadPoolExecutor(1, "tokenise")  # which no photo keeps waiting

    async def prepare(self, upload: Upload, slot: Slot) -> PreparedPost:
        """Make one post; raises :class:`model.InvalidPost`."""
        pool = self._texts if upload.image is None else self._pool
        given = [upload]
        work = pool.submit(lambda: self._prepare(given.pop()))
        work.add_done_callback(lambda _: given.clear())  # the pool keeps cancelled work until a thread comes by
        slot.holds(work)
        try:
            return await asyncio.wrap_future(work)
        finally:
            del work  # an exception's traceback has this frame, and the future has the exception: with the photo in it

    def _prepare(self, upload: Upload) -> PreparedPost:
        if upload.image is None:
            return PreparedPost(self._recognizer.prepare(upload.text))
        key = self._cache.key(upload.image)
        features = self._cache.look_up(key)
        if features is not None:
            return PreparedPost(replace(self._recognizer.prepare(upload.text), image_features=features), key)
        return PreparedPost(self._recognizer.prepare(upload.text, upload.image, max_pixels=self._max_pixels), key)

    def close(self) -> None:
        """Let the threads end; what has not begun is dropped."""
        for pool in (self._pool, self._texts):
            pool.shutdown(wait=False, cancel_futures=True)
