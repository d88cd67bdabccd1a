"""Photos are decoded and texts tokenised in a few threads of their own, beside the event loop and the model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from model import Post, Recognizer
from service.admission import Slot
from service.threads import use_torch_threads
from service.upload import Upload


class Preparation:
    """A bounded pool that makes posts out of uploads; admission bounds what waits for it.

    Args:
        recognizer: whose :meth:`~model.Recognizer.prepare` is called.
        workers: threads.
        max_pixels: a photo with more pixels is refused.
    """

    def __init__(self, recognizer: Recognizer, *, workers: int, max_pixels: int) -> None:
        self._recognizer = recognizer
        self._max_pixels = max_pixels
        # one thread for torch in each: a photo is too small to share, and the cores belong to the model
        self._pool = ThreadPoolExecutor(workers, "prepare", initializer=use_torch_threads, initargs=(1,))

    async def prepare(self, upload: Upload, slot: Slot) -> Post:
        """Make one post; raises :class:`model.InvalidPost`."""
        work = self._pool.submit(self._prepare, upload)
        slot.holds(work)
        return await asyncio.wrap_future(work)

    def _prepare(self, upload: Upload) -> Post:
        return self._recognizer.prepare(upload.text, upload.image, max_pixels=self._max_pixels)

    def close(self) -> None:
        """Let the threads end; what has not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
