"""Runs the model in threads of its own: a free thread takes what is waiting, up to a budget, without a timer.

A lone post waits for nothing, and batches grow by themselves under load (the policy of text-embeddings-inference).
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

import structlog
import torch

from model import Entity, Post, Recognizer
from service.errors import InternalError, NotReady, Overloaded
from service.inference.batching import Budget, choose_batch
from service.inference.device_errors import is_device_error, is_lost, is_out_of_memory, summary
from service.inference.image_cache import ImageCache
from service.inference.queue_entry import QueueEntry
from service.inference.warmup import warm_up
from service.runtime import set_torch_threads

log = structlog.get_logger()

_STOP_SECONDS = 5.0  # how long stopping waits for a running batch
_HUNG_SECONDS = 120.0  # a batch takes seconds at most; one that runs for so long never ends


class RunningBatch(NamedTuple):
    """A batch that a thread is running, and since when (monotonic time)."""

    entries: Sequence[QueueEntry]
    started: float


class Engine:
    """Queues posts and runs them through the network.

    Args:
        recognizer: the model; nothing else may call its :meth:`~model.Recognizer.run`.
        budget: what a batch may cost; less after a warm-up for which the device has too little memory.
        cache: keeps the features of images.
        torch_threads: threads for torch's operations on a CPU.
        concurrent_batches: batches that run at the same time, each in a thread of its own.
        on_batch: called with the size of every batch, in the thread that ran it.
        on_device_error: called for every batch that failed because the device ran out of memory, failed or was lost.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        budget: Budget,
        cache: ImageCache,
        torch_threads: int,
        concurrent_batches: int = 1,
        on_batch: Callable[[int], None] = lambda _: None,
        on_device_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._recognizer = recognizer
        self._cache = cache
        self.budget = budget
        self._torch_threads = torch_threads
        self._on_batch = on_batch
        self._on_device_error = on_device_error
        self._waiting: list[QueueEntry] = []
        self._running: dict[int, RunningBatch] = {}  # by thread
        self._changed = threading.Condition()
        self._warming_up = threading.Lock()
        self._stopped = False
        self._warm = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"model-{number}", daemon=True)
            for number in range(concurrent_batches)
        ]

    @property
    def alive(self) -> bool:
        """Whether every thread runs and none hangs in a batch."""
        oldest = min((batch.started for batch in list(self._running.values())), default=math.inf)
        return time.monotonic() - oldest < _HUNG_SECONDS and all(thread.is_alive() for thread in self._threads)

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over and the engine is alive."""
        return self._warm and self.alive

    @property
    def depth(self) -> int:
        """Posts waiting for the model."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the threads, which warm up first."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Refuse the posts that wait, and wait a few seconds for running batches."""
        self._refuse_posts()
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _refuse_posts(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def submit(self, entry: QueueEntry) -> None:
        """Queue a post; the limiter bounds how many there can be.

        Raises:
            NotReady: the engine has stopped.
        """
        with self._changed:
            if self._stopped:
                raise NotReady("the model has stopped")
            self._waiting.append(entry)
            self._changed.notify()
        # not a closure over the entry: it would create a cycle and keep the image until the garbage collector runs
        entry.future.add_done_callback(self._drop_if_canceled)

    def _drop_if_canceled(self, future: Future[list[Entity]]) -> None:
        """Free a canceled post and its image immediately, even while the model is busy."""
        if future.cancelled():
            with self._changed:
                self._waiting = [entry for entry in self._waiting if entry.future is not future]

    def _run(self, number: int) -> None:
        try:
            set_torch_threads(self._torch_threads)
            with self._warming_up:  # the first thread does it, the others wait
                if not self._warm and not self._stopped:
                    self.budget = warm_up(
                        self._recognizer,
                        self.budget,
                        stopped=lambda: self._stopped,
                        on_device_error=self._report_device_error,
                    )
                    self._warm = not self._stopped
            while batch := self._next_batch(number):
                self._run_batch(batch)
                self._finish_batch(number)
        except BaseException as error:  # without this thread there are no answers, so log it whatever it is
            detail = {} if self._warm else {"detail": summary(error)}  # before the first post a message repeats none
            log.critical("the model's thread died", **detail, exc_info=True)
        finally:
            self._fail_unanswered(number)

    def _next_batch(self, number: int) -> list[QueueEntry]:
        """Wait for posts and claim those to run now; empty when the engine has stopped.

        If another thread is encoding a post's image, the post waits for those features.
        """
        with self._changed:
            while not self._stopped:
                self._waiting = [entry for entry in self._waiting if entry.still_waiting()]
                encoding = {e.image_key for batch in self._running.values() for e in batch.entries if e.images}
                runnable = [entry for entry in self._waiting if not (entry.images and entry.image_key in encoding)]
                if not runnable:
                    self._changed.wait()
                    continue
                chosen = choose_batch(runnable, self.budget)
                leaving = set(chosen)
                self._waiting = [entry for entry in self._waiting if entry not in leaving]
                if claimed := [entry for entry in chosen if entry.claim()]:
                    self._running[number] = RunningBatch(claimed, time.monotonic())
                    return claimed
        return []

    def _finish_batch(self, number: int) -> None:
        with self._changed:
            del self._running[number]
            self._changed.notify_all()

    def _run_batch(self, batch: Sequence[QueueEntry]) -> None:
        """Run a batch; if it fails, halve it until the culprit is alone, so that the other posts are answered."""
        for entry in batch:
            entry.batch_size = len(batch)
        try:
            answers = self._recognizer.run(self._encode_images(batch), explain=batch[0].explain)
        except Exception as error:
            if is_device_error(error):
                self._report_device_error(error)
            if is_lost(error):
                raise  # and every later batch with it: let the supervisor restart the process
            out_of_memory = is_out_of_memory(error)
            if len(batch) == 1:
                self._fail(batch[0], error)
        else:
            self._on_batch(len(batch))
            for entry, entities in zip(batch, answers, strict=True):
                entry.future.set_result(entities)
            return
        if out_of_memory:  # outside the handler, whose error keeps the batch's tensors
            self._free_memory()
        if len(batch) > 1:
            self._run_halves(batch)

    def _free_memory(self) -> None:
        """Give back what is only kept to be fast, also to other processes on the device."""
        self._cache.clear()  # its features are on the device
        torch.cuda.empty_cache()

    def _run_halves(self, batch: Sequence[QueueEntry]) -> None:
        middle = len(batch) // 2
        self._run_batch(batch[:middle])
        self._run_batch(batch[middle:])

    def _report_device_error(self, error: Exception) -> None:
        """Count and log the error; its message is torch's own, so it repeats nothing of a post."""
        self._on_device_error()
        log.error("the device failed", detail=summary(error), exc_info=error)

    def _encode_images(self, batch: Sequence[QueueEntry]) -> list[Post]:
        """The posts with image features instead of pixels; encodes each distinct image once and caches it."""
        pixels = {entry.image_key: own for entry in batch if (own := entry.post.pixels) is not None}
        known = {key: self._cache.peek(key) for key in pixels}
        new = [key for key, features in known.items() if features is None]
        if new:
            for key, features in zip(new, self._recognizer.encode_images([pixels[key] for key in new]), strict=True):
                known[key] = features
                self._cache.put(key, features)
        return [
            entry.post if entry.post.pixels is None else replace(entry.post, image_features=known[entry.image_key])
            for entry in batch
        ]

    def _fail(self, entry: QueueEntry, error: Exception) -> None:
        log.error("the model failed on a post", request_id=entry.request_id, exc_info=error)
        if is_out_of_memory(error):
            entry.future.set_exception(Overloaded("the device does not have enough memory for this post alone"))
        else:
            entry.future.set_exception(InternalError())

    def _fail_unanswered(self, number: int) -> None:
        """Stop the engine and fail this thread's unanswered posts and all that wait."""
        self._refuse_posts()
        with self._changed:
            running = self._running.pop(number, None)
            failed = [entry for entry in running.entries if not entry.future.done()] if running else []
            failed += [entry for entry in self._waiting if entry.future.set_running_or_notify_cancel()]
            self._waiting = []
        for entry in failed:
            entry.future.set_exception(NotReady("the model has stopped"))
