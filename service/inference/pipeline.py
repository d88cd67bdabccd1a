"""From text and image bytes to entities: preprocessing, queue, model."""

import asyncio
from dataclasses import dataclass

from model import Entity, Recognizer
from service.inference.batching import Budget
from service.inference.deadline import Deadline
from service.inference.engine import Engine
from service.inference.image_cache import ImageCache
from service.inference.limiter import Limiter, Permit
from service.inference.preprocessing import Preprocessor
from service.inference.queue_entry import QueueEntry
from service.inference.stage_times import StageTimes
from service.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class RecognizedPost:
    """The entities of a post, by position, and whether its image was used."""

    entities: list[Entity]
    image_used: bool


class Pipeline:
    """Serves a recognizer within limits.

    Args:
        settings: every limit.
        recognizer: the loaded checkpoint.
        metrics: counts posts, batches, cache lookups and device errors.
    """

    def __init__(self, settings: Settings, recognizer: Recognizer, metrics: Metrics) -> None:
        on_cpu = recognizer.device.type == "cpu"
        self.recognizer = recognizer
        self.limiter = Limiter(settings.max_pending_posts, settings.max_pending_bytes)
        # A CPU pays for each sub-token of padding; on a GPU one more batch costs more than a longer one.
        self.batch_padding = 0.2 if on_cpu and settings.max_batch_padding is None else settings.max_batch_padding
        cache = ImageCache(settings.image_cache_mb * 2**20, on_lookup=metrics.count_image_lookup)
        self._preprocessor = Preprocessor(
            recognizer, workers=settings.decode_workers, cache=cache, max_pixels=settings.max_image_pixels
        )
        self.engine = Engine(
            recognizer,
            budget=Budget(settings.max_batch_tokens, settings.max_batch_images, self.batch_padding),
            cache=cache,
            torch_threads=settings.model_threads,
            # on a CPU, threads that wait for each other in one batch have work in another
            concurrent_batches=2 if on_cpu and settings.model_threads > 1 else 1,
            on_batch=metrics.batch_size.observe,
            on_device_error=metrics.device_errors.inc,
        )
        self._metrics = metrics
        metrics.queue_depth.set_function(lambda: self.engine.depth)

    def start(self) -> None:
        """Start the model's threads, which warm up first."""
        self.engine.start()

    def stop(self) -> None:
        """Stop all threads; waits a few seconds for running batches."""
        self._preprocessor.close()
        self.engine.stop()

    async def recognize(
        self,
        text: str,
        image: bytes | None,
        *,
        explain: bool,
        permit: Permit,
        deadline: Deadline,
        stage_times: StageTimes,
        request_id: str,
    ) -> RecognizedPost:
        """Find the entities of one post.

        Args:
            image: an image file.
            explain: whether entities say where in the image they looked.
            permit: is held until no thread works on the post, even if this call is canceled.
            stage_times: receives the seconds of each stage reached, also if the post fails or this call is canceled.
            request_id: identifies the post in the log.

        Raises:
            InvalidPost: the text or the image cannot be read.
            ServiceError: the post is late, or the model failed or has stopped.
        """
        with stage_times.measure("decode"):
            preprocessed = await self._preprocessor.preprocess(text, image, permit)
        entry = QueueEntry(
            post=preprocessed.post,
            image_key=preprocessed.image_key,
            explain=explain,
            deadline=deadline,
            request_id=request_id,
        )
        self.engine.submit(entry)
        permit.hold_until_done(entry.future)
        try:
            entities = await asyncio.wrap_future(entry.future)
        finally:
            stage_times.update(entry.stage_times())
        image_used = entry.post.has_image
        self._metrics.count_post(entities, image_used=image_used)
        return RecognizedPost(entities, image_used)
