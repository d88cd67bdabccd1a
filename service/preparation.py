"""Photos are decoded and texts tokenised in a few threads of their own, beside the event loop and the model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from model import Post, Recognizer
from service.admission import Slot
from service.image_cache import ImageCache
from service.threads import use_torch_threads
from service.upload import Upload


@dataclass(frozen=True, slots=True)
class PreparedPost:
    """A post, and what its photo is kept by in the cache; empty without a photo."""

    post: Post
    photo_key: bytes = b""


class Preparation:
    """A bounded pool that makes posts out of uploads; admission bounds what waits for it.

    Args:
        recognizer: whose :meth:`~model.Recognizer.prepare` is called.
        workers: threads.
        cache: the photos that need no decoding.
        max_pixels: a photo with more pixels is refused.
    """

    def __init__(self, recognizer: Recognizer, *, workers: int, cache: ImageCache, max_pixels: int) -> None:
        self._recognizer = recognizer
        self._cache = cache
        self._max_pixels = max_pixels
        # one thread for torch in each: a photo is too small to share, and the cores belong to the model
        self._pool = ThreadPoolExecutor(workers, "prepare", initializer=use_torch_threads, initargs=(1,))

    async def prepare(self, upload: Upload, slot: Slot) -> PreparedPost:
        """Make one post; raises :class:`model.InvalidPost`."""
        work = self._pool.submit(self._prepare, upload)
        slot.holds(work)
        return await asyncio.wrap_future(work)

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
        self._pool.shutdown(wait=False, cancel_futures=True)
