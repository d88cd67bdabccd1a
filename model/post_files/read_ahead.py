"""Prepares posts in threads while the model is busy with earlier ones."""

import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import torch

_READER_SECONDS = 1.0
_MAX_WORKERS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _End:
    """Comes after the last item; ``error`` is why no further one could be read."""

    error: BaseException | None = None


def read_ahead(
    items: Iterator[Item], prepare: Callable[[Item], Result], *, ahead: int, workers: int
) -> Generator[list[Result], None, None]:
    """Prepare items in ``workers`` threads; yield all results that wait, in order, at least one and at most ``ahead``.

    Items are read by a thread of their own, so those of a slow pipe are answered as they come. At most ``ahead`` wait;
    as many may be in the hands of the caller. An error of ``items`` is raised after the results before it. When the
    caller closes the generator, work that has not begun is dropped.
    """
    pool = ThreadPoolExecutor(workers, "prepare", initializer=_use_one_thread)
    free, queue = threading.Semaphore(ahead), SimpleQueue[Future[Result] | _End]()
    closed = threading.Event()

    def read() -> None:
        try:
            while free.acquire() and not closed.is_set():
                queue.put(pool.submit(prepare, next(items)))
        except StopIteration:
            queue.put(_End())
        except BaseException as error:  # noqa: BLE001 raised where the results are read
            queue.put(_End(error))

    # a daemon, because nothing can interrupt it while it waits for a pipe
    reader = threading.Thread(target=read, name="read", daemon=True)
    reader.start()
    try:
        while True:
            taken = _take(queue, ahead)
            free.release(len(taken))
            if results := [future.result() for future in taken if isinstance(future, Future)]:
                yield results
            if isinstance(end := taken[-1], _End):
                break
        if end.error is not None:
            raise end.error
    finally:
        closed.set()
        free.release()
        pool.shutdown(wait=False, cancel_futures=True)
        # Unless it waits for a pipe, it ends now. Later it could be the one that frees the network, and Python ends
        # daemons at exit where they stand: in C++ that is an abort.
        reader.join(_READER_SECONDS)


def default_workers() -> int:
    """A thread for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_WORKERS)


def _take(queue: SimpleQueue[Future[Result] | _End], most: int) -> list[Future[Result] | _End]:
    """Wait for one, then take all that is there, up to ``most`` or the end."""
    taken = [queue.get()]
    while len(taken) < most and isinstance(taken[-1], Future) and not queue.empty():
        taken.append(queue.get())
    return taken


def _use_one_thread() -> None:
    """Images are too small to split, and the model needs the cores."""
    torch.get_num_threads()  # otherwise the process-wide default would replace this thread's own number later
    torch.set_num_threads(1)
