"""The ceiling: the same checkpoint and posts through the recognizer in a separate process, without HTTP."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from transformers.utils import logging

from model import Recognizer
from model.device import Precision
from service.app import concurrent_batches
from service.runtime import set_torch_threads, tune_malloc
from tests.benchmarks.serving.posts import Post

_LIMIT_SECONDS = 600.0
_BATCHES_PER_CALL = 8  # the recognizer sorts the posts of a call by length


class Direct(ProcessPoolExecutor):
    """A recognizer in another process, which ``with`` ends.

    Args:
        threads: of torch's operations.
        posts: the methods take their indices.
    """

    def __init__(
        self,
        checkpoint: Path,
        device: str,
        *,
        threads: int,
        posts: Sequence[Post],
        precision: Precision = "auto",
    ) -> None:
        arguments = (checkpoint, device, precision, threads, posts)
        super().__init__(1, get_context("spawn"), _load, arguments)

    def rate(self, batch_size: int, seconds: float, *, images: bool = True) -> float:
        """Posts per second through ``recognize_batch``, decoding included, in as many batches at once as served."""
        return self.submit(_rate, batch_size, seconds, images=images).result(_LIMIT_SECONDS)

    def lone(self, posts: Sequence[int], *, images: bool = True) -> list[float]:
        """Seconds that ``recognize`` takes for each post."""
        return self.submit(_lone, posts, images=images).result(_LIMIT_SECONDS)

    def answers(self, posts: Sequence[int]) -> list[list[dict[str, Any]]]:
        """The entities of each post, asked alone."""
        return self.submit(_answers, posts).result(_LIMIT_SECONDS)


_recognizer: Recognizer
_posts: Sequence[Post]
_batches: int
_threads: ThreadPoolExecutor


def _load(checkpoint: Path, device: str, precision: Precision, threads: int, posts: Sequence[Post]) -> None:
    tune_malloc()  # as smner-serve does; it is set per process
    global _recognizer, _posts, _batches, _threads
    logging.disable_progress_bar()
    set_torch_threads(threads)
    _recognizer, _posts = Recognizer.from_pretrained(checkpoint, device=device, precision=precision), posts
    _batches = concurrent_batches(threads, on_cpu=_recognizer.device.type == "cpu")
    _threads = ThreadPoolExecutor(_batches, initializer=partial(set_torch_threads, threads))
    _rate(_recognizer.batch_size, 0.0, images=True)


def _rate(batch_size: int, seconds: float, *, images: bool) -> float:
    _recognizer.batch_size = batch_size
    begun = time.perf_counter()
    shares = _threads.map(partial(_work, batch_size * _BATCHES_PER_CALL, begun + seconds, images), range(_batches))
    return sum(shares) / (time.perf_counter() - begun)


def _work(size: int, until: float, images: bool, thread: int) -> int:
    """Recognize until the time is over, and return how many posts were; each thread starts elsewhere."""
    first, done = thread * len(_posts) // _batches, 0
    while done == 0 or time.perf_counter() < until:
        chosen = [_posts[number % len(_posts)] for number in range(first + done, first + done + size)]
        _recognizer.recognize_batch([post.text for post in chosen], [post.image if images else None for post in chosen])
        done += size
    return done


def _lone(posts: Sequence[int], *, images: bool) -> list[float]:
    seconds = []
    for number in posts:
        text, image = _posts[number]
        begun = time.perf_counter()
        _recognizer.recognize(text, image if images else None)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _answers(posts: Sequence[int]) -> list[list[dict[str, Any]]]:
    return [[asdict(entity) for entity in _recognizer.recognize(*_posts[number])] for number in posts]
