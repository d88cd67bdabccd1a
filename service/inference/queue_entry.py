"""A post in the queue for the model."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from model import Entity, Post
from service.inference.deadline import Deadline
from service.inference.stage_times import StageTimes


@dataclass(eq=False, slots=True, kw_only=True)
class QueueEntry:
    """A post and the future of its entities; moments are those of :func:`time.monotonic`.

    Attributes:
        image_key: the image's key in the cache; empty without an image.
        request_id: identifies the post in the log.
        future: canceling it withdraws the post, unless that is running.
        started: when the model began to run the post; None before.
        batch_size: posts in the batch that was run with it; the last one, if batches failed.
    """

    post: Post
    image_key: bytes
    explain: bool
    deadline: Deadline
    request_id: str
    future: Future[list[Entity]] = field(default_factory=Future)
    enqueued: float = field(default_factory=time.monotonic)
    started: float | None = None
    batch_size: int | None = None

    @property
    def tokens(self) -> int:
        """Sub-tokens of the text's longest window."""
        return self.post.tokens

    @property
    def windows(self) -> int:
        """Windows of the text; 1 unless it is longer than the model reads at once."""
        return len(self.post.windows)

    @property
    def images(self) -> int:
        """1 with an image that is not encoded yet, else 0."""
        return int(self.post.pixels is not None)

    def still_waiting(self) -> bool:
        """Whether the post should stay in the queue; if it has expired, its future gets the error."""
        if self.deadline.expired:
            self.claim()  # fails, and sets the error
            return False
        return not self.future.cancelled()

    def claim(self) -> bool:
        """Mark the post as running, after which it cannot be canceled; False if it was canceled or has expired."""
        if not self.future.set_running_or_notify_cancel():
            return False
        if self.deadline.expired:
            self.future.set_exception(self.deadline.error())
            return False
        self.started = time.monotonic()
        return True

    def record_stages(self, times: StageTimes) -> None:
        """Record the stages that the post has reached; the last one counts up to now."""
        now = time.monotonic()
        times.record("queue", self.enqueued, now if self.started is None else self.started)
        if self.started is not None:
            times.record("model", self.started, now)
            times.batch_size = self.batch_size
