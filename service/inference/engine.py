"""The model in threads of its own: whenever one is free it takes what is waiting, up to a budget, without a timer.

A lone post waits for nothing, and batches grow by themselves under load (the policy of text-embeddings-inference).
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog
import torch

from model import Entity, Post, Recognizer
from service.errors import DeadlineExceeded, InternalError, NotReady, Overloaded
from service.inference.batching import Budget, choose_batch
from service.inference.image_cache import ImageCache
from service.inference.preprocessing import PreparedPost
from service.inference.warmup import warm_up_batches
from service.runtime import use_torch_threads

log = structlog.get_logger()

_STOP_SECONDS = 5.0  # that a running batch gets to end before the process leaves it behind
_HUNG_SECONDS = 120.0  # a batch takes seconds at most; one that runs for so long never ends


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket:
    """A post on its way through the model; moments are those of :func:`time.monotonic`."""

    post: Post
    image_key: bytes
    explain: bool
    begun: float  # of the request
    submitted: float
    deadline: float
    request_id: str
    answer: Future[list[Entity]] = field(default_factory=Future)
    started: float | None = None

    @property
    def tokens(self) -> int:
        """Sub-tokens of the text."""
        return len(self.post.text.input_ids)

    @property
    def images(self) -> int:
        """1 with a photo that the image encoder has not seen, else 0."""
        return int(self.post.pixels is not None)

    def claim(self, now: float) -> bool:
        """Whether the post is still worth running; from here on its client cannot take it back."""
        if not self.answer.set_running_or_notify_cancel():
            return False
        if now >= self.deadline:
            self.answer.set_exception(DeadlineExceeded(seconds=now - self.begun, limit=self.deadline - self.begun))
            return False
        self.started = now
        return True


class Running(NamedTuple):
    """A batch that the model has, and since when."""

    batch: Sequence[Ticket]
    began: float


class Engine:
    """Runs posts through the network.

    Args:
        recognizer: the model; nothing else may call its :meth:`~model.Recognizer.run`.
        budget: what a batch may cost.
        cache: where photos' features are kept.
        threads: of torch's operations on a CPU.
        batches_at_once: so many run at the same time, each in a thread of its own.
        on_batch: told the size of every batch, in the thread that ran it.
        on_device_error: told of every batch that failed because the device had no memory left or was lost.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        budget: Budget,
        cache: ImageCache,
        threads: int,
        batches_at_once: int = 1,
        on_batch: Callable[[int], None] = lambda _: None,
        on_device_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._recognizer = recognizer
        self._cache = cache
        self._budget = budget
        self._torch_threads = threads
        self._on_batch = on_batch
        self._on_device_error = on_device_error
        self._waiting: list[Ticket] = []
        self._running: dict[int, Running] = {}  # by thread
        self._changed = threading.Condition()
        self._warming_up = threading.Lock()
        self._closed = False
        self._warm = False
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"model-{number}", daemon=True)
            for number in range(batches_at_once)
        ]

    @property
    def alive(self) -> bool:
        """Whether the model's threads run, and none hangs in a batch."""
        began = min((running.began for running in list(self._running.values())), default=math.inf)
        return time.monotonic() - began < _HUNG_SECONDS and all(thread.is_alive() for thread in self._threads)

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over and the threads run."""
        return self._warm and self.alive

    @property
    def depth(self) -> int:
        """Posts that wait for the model."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin with the warm-up."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the batches that run now; posts that still wait are refused."""
        self._close()
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def submit(
        self, prepared: PreparedPost, *, explain: bool, begun: float, deadline: float, request_id: str
    ) -> Ticket:
        """Queue a post; admission has bounded how many there can be."""
        ticket = Ticket(
            post=prepared.post,
            image_key=prepared.image_key,
            explain=explain,
            begun=begun,
            submitted=time.monotonic(),
            deadline=deadline,
            request_id=request_id,
        )
        with self._changed:
            if self._closed:
                raise NotReady("the model has stopped")
            self._waiting.append(ticket)
            self._changed.notify()
        # not a closure over the ticket: with its answer it would be a circle, and its photo would await the collector
        ticket.answer.add_done_callback(self._forget)
        return ticket

    def _forget(self, answer: Future[list[Entity]]) -> None:
        """Drop a post that nobody waits for, its photo with it, even while the model is busy."""
        if answer.cancelled():
            with self._changed:
                self._waiting = [ticket for ticket in self._waiting if ticket.answer is not answer]

    def _work(self, number: int) -> None:
        try:
            use_torch_threads(self._torch_threads)
            with self._warming_up:  # whichever comes first; the others find it done
                while not self._warm and not self._closed:
                    self._warm_up()
            while batch := self._next_batch(number):
                self._answer(batch)
                self._done(number)
        except BaseException as error:  # without this thread there are no answers, so whatever it was must be seen
            detail = {} if self._warm else {"detail": str(error)}  # until it is warm there has been no post to repeat
            log.critical("the model's thread died", **detail, exc_info=True)
        finally:
            self._abandon(number)

    def _warm_up(self) -> None:
        """Run every kind of batch once; if the device has no memory for one, make do with half the budget."""
        try:
            for posts in warm_up_batches(self._recognizer, self._budget):
                if self._closed:
                    return
                self._recognizer.run(posts)
                self._recognizer.run(posts[:1], explain=True)
        except torch.OutOfMemoryError as error:
            self._count_device_error(error)
            smaller = self._budget.halved(least_tokens=self._recognizer.processor.max_tokens)
            if smaller == self._budget:
                log.critical(
                    "the device has no memory for even one post: free some, or choose another with --device "
                    "(SMNER_DEVICE)",
                    device=str(self._recognizer.device),
                )
                raise
        else:
            self._warm = True
            return
        log.warning(
            "the device has no memory for a full batch: lower --max-batch-images (SMNER_MAX_BATCH_IMAGES) and "
            "--max-batch-tokens (SMNER_MAX_BATCH_TOKENS), or free some; until the next start batches are smaller",
            batch_images=smaller.images,
            batch_tokens=smaller.tokens,
        )
        self._budget = smaller
        self._release_memory()

    def _next_batch(self, number: int) -> list[Ticket]:
        """Wait for posts and claim those to run now; empty when the engine is stopped.

        A photo that another thread encodes is not encoded here too: its post waits until the features are there.
        """
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._waiting = [ticket for ticket in self._waiting if not _given_up(ticket, now)]
                encoding = {ticket.image_key for run in self._running.values() for ticket in run.batch if ticket.images}
                free = [ticket for ticket in self._waiting if not (ticket.images and ticket.image_key in encoding)]
                if not free:
                    self._changed.wait()
                    continue
                chosen = choose_batch(free, self._budget)
                self._waiting = [ticket for ticket in self._waiting if ticket not in chosen]
                if claimed := [ticket for ticket in chosen if ticket.claim(now)]:
                    self._running[number] = Running(claimed, now)
                    return claimed
        return []

    def _done(self, number: int) -> None:
        with self._changed:
            del self._running[number]
            self._changed.notify_all()

    def _answer(self, batch: Sequence[Ticket]) -> None:
        """Run a batch; one that fails is halved until the culprit stands alone, so its neighbours are answered."""
        try:
            answers = self._recognizer.run(self._with_features(batch), explain=batch[0].explain)
        except torch.AcceleratorError as error:
            self._count_device_error(error)
            raise  # the device is lost, and with it every later batch: let the supervisor restart the process
        except Exception as error:  # noqa: BLE001 whatever one post does, its neighbours are answered
            if isinstance(error, torch.OutOfMemoryError):
                self._count_device_error(error)
                self._cache.clear()  # its features are on the device
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
        else:
            self._on_batch(len(batch))
            for ticket, entities in zip(batch, answers, strict=True):
                ticket.answer.set_result(entities)
            return
        self._release_memory()  # it may have been that
        middle = len(batch) // 2
        self._answer(batch[:middle])
        self._answer(batch[middle:])

    def _count_device_error(self, error: Exception) -> None:
        """The message is torch's own, of sizes and devices: an exception of these types repeats nothing of a post."""
        self._on_device_error()
        log.error("the device failed", detail=str(error), exc_info=error)

    def _release_memory(self) -> None:
        if self._recognizer.device.type == "cuda":
            torch.cuda.empty_cache()

    def _with_features(self, batch: Sequence[Ticket]) -> list[Post]:
        """The posts with their photos encoded, each distinct photo once; the features are kept for later posts."""
        pixels = {ticket.image_key: own for ticket in batch if (own := ticket.post.pixels) is not None}
        known = {key: self._cache.peek(key) for key in pixels}
        new = [key for key, features in known.items() if features is None]
        if new:
            for key, features in zip(new, self._recognizer.encode_images([pixels[key] for key in new]), strict=True):
                known[key] = features
                self._cache.keep(key, features)
        return [
            ticket.post if ticket.post.pixels is None else replace(ticket.post, image_features=known[ticket.image_key])
            for ticket in batch
        ]

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        log.error("the model failed on a post", request_id=ticket.request_id, exc_info=error)
        if isinstance(error, torch.OutOfMemoryError):
            ticket.answer.set_exception(Overloaded("the device has no memory left for even one post"))
        else:
            ticket.answer.set_exception(InternalError())

    def _abandon(self, number: int) -> None:
        self._close()
        with self._changed:
            running = self._running.pop(number, None)
            left = [ticket for ticket in running.batch if not ticket.answer.done()] if running else []
            left += [ticket for ticket in self._waiting if ticket.answer.set_running_or_notify_cancel()]
            self._waiting = []
        for ticket in left:
            ticket.answer.set_exception(NotReady("the model has stopped"))


def _given_up(ticket: Ticket, now: float) -> bool:
    """Whether nobody waits for the post any more; one that has expired is told so."""
    if ticket.answer.cancelled():
        return True
    return now >= ticket.deadline and not ticket.claim(now)


async def answer_of(ticket: Ticket) -> list[Entity]:
    """Wait for a ticket's answer; if the wait is given up, so is the post, unless it runs already."""
    return await asyncio.wrap_future(ticket.answer)
