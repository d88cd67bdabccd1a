"""Everything that serves one checkpoint, put together once and handed to the routes."""

import time

from model import Recognizer
from service.errors import NotReady, Unauthorized
from service.http.auth import KeyFile
from service.http.request_context import RequestContext
from service.http.schemas import Recognition
from service.http.upload import Upload, UploadLimits
from service.inference.batching import Budget
from service.inference.engine import Engine, answer_of
from service.inference.image_cache import ImageCache
from service.inference.limiter import Gate, Slot
from service.inference.preprocessing import Preparation
from service.metrics import Metrics
from service.settings import Settings


class Service:
    """A recognizer with its queue, pools, limits and metrics.

    Args:
        settings: every limit.
        recognizer: the loaded checkpoint.
    """

    def __init__(self, settings: Settings, recognizer: Recognizer) -> None:
        self.settings = settings
        self.recognizer = recognizer
        self.limits = UploadLimits(
            body_bytes=settings.max_body_bytes,
            image_bytes=settings.max_image_bytes,
            text_characters=settings.max_text_characters,
        )
        self.batch_padding = self._batch_padding()
        self.gate = Gate(settings.max_pending_posts, settings.max_pending_bytes)
        self.keys = None if settings.api_keys_file is None else KeyFile(settings.api_keys_file)
        self.image_cache = ImageCache(
            settings.image_cache_mb * 2**20, on_lookup=lambda hit: self.metrics.count_image_lookup(hit=hit)
        )
        self.preparation = Preparation(
            recognizer,
            workers=settings.decode_workers,
            cache=self.image_cache,
            max_pixels=settings.max_image_pixels,
        )
        self.engine = Engine(
            recognizer,
            budget=Budget(settings.max_batch_tokens, settings.max_batch_images, self.batch_padding),
            cache=self.image_cache,
            threads=settings.model_threads,
            batches_at_once=self._batches_at_once(),
            on_batch=lambda size: self.metrics.batch_size.observe(size),
            on_device_error=lambda: self.metrics.count_device_error(),
        )
        self.metrics = Metrics(recognizer, queue_depth=lambda: self.engine.depth)
        self.leaving = False  # told to end; posts are still taken from whoever has not noticed yet
        self.draining = False  # none are taken any more

    def _batch_padding(self) -> float | None:
        """A CPU pays for each padded sub-token; on a GPU one more batch costs more than a longer one."""
        if self.settings.max_batch_padding is None and self.recognizer.device.type == "cpu":
            return 0.2
        return self.settings.max_batch_padding

    def _batches_at_once(self) -> int:
        """The threads of a CPU wait for each other in every operation; those of another batch have work meanwhile."""
        return 2 if self.recognizer.device.type == "cpu" and self.settings.model_threads > 1 else 1

    def start(self) -> None:
        """Start the model's threads; it is ready when it is warm."""
        self.engine.start()

    def stop(self) -> None:
        """End the threads."""
        self.preparation.close()
        self.engine.stop()

    @property
    def unready(self) -> str | None:
        """Why nobody should send posts here; None when they may."""
        return "the service is shutting down" if self.leaving else self.refusing

    @property
    def refusing(self) -> str | None:
        """Why no post is taken now; None when posts are."""
        if self.draining:
            return "the service is shutting down"
        if self.engine.ready:
            return None
        return "the model is warming up" if self.engine.alive else "the model's thread does not run"

    def authorize(self, key: str | None) -> None:
        """Let in whoever has a key, and everybody where no keys are set.

        Raises:
            Unauthorized: the key is missing or not among them.
        """
        if self.keys is not None and (key is None or not self.keys.admits(key)):
            raise Unauthorized(given=key is not None)

    def admit(self, announced: int | None) -> Slot:
        """Let in a post whose body is ``announced`` bytes long; one that does not say counts as the largest.

        Raises:
            NotReady, Overloaded: not now.
        """
        if (reason := self.refusing) is not None:
            raise NotReady(reason)
        largest = self.limits.body_bytes
        return self.gate.enter(largest if announced is None else min(announced, largest))  # beyond, it is not read

    async def recognize(self, upload: Upload, slot: Slot, context: RequestContext, *, explain: bool) -> Recognition:
        """Decode, queue and run one post."""
        with context.stage("decode"):
            prepared = await self.preparation.prepare(upload, slot)
        ticket = self.engine.submit(
            prepared,
            explain=explain,
            begun=context.started,
            deadline=context.deadline,
            request_id=context.request_id,
        )
        slot.holds(ticket.answer)
        try:
            entities = await answer_of(ticket)
        finally:
            now = time.monotonic()
            context.record("queue", (ticket.started or now) - ticket.submitted)
            if ticket.started is not None:
                context.record("model", now - ticket.started)
        image_used = prepared.post.has_image
        self.metrics.count_post(entities, image_used=image_used)
        return Recognition.of(
            entities,
            image_used=image_used,
            name=self.recognizer.name,
            revision=self.recognizer.revision,
            request_id=context.request_id,
        )
