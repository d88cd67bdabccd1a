"""From text and image bytes to entities: preprocessing, queue, model."""

import asyncio
from dataclasses import dataclass

from model import Entity, Recognizer
from service.inference.deadline import Deadline
from service.inference.engine import Engine
from service.inference.limiter import Limiter, Permit
from service.inference.preprocessing import Preprocessor
from service.inference.queue_entry import QueueEntry
from service.inference.stage_times import StageTimes
from service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class RecognizedPost:
    """The entities of a post, by position, and whether its image was used."""

    entities: list[Entity]
    image_used: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a post, in this order; ``metrics`` counts the posts that are answered."""

    recognizer: Recognizer
    limiter: Limiter
    preprocessor: Preprocessor
    engine: Engine
    metrics: Metrics

    def start(self) -> None:
        """Start the model's threads, which warm up first."""
        self.engine.start()

    def stop(self) -> None:
        """Stop all threads; waits a few seconds for running batches."""
        self.preprocessor.close()
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
            preprocessed = await self.preprocessor.preprocess(text, image, permit)
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
            entry.record_stages(stage_times)
        image_used = entry.post.has_image
        self.metrics.count_post(entities, image_used=image_used)
        return RecognizedPost(entities, image_used)
