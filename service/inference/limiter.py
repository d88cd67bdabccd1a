"""Limits how many posts, and how many bytes of them, are in progress; more are refused before their bodies are read.

A post counts as pending only once it has arrived in full, so slow uploads do not keep others from the model. Posts of
a batch are not refused but wait for a place, and can take only a part of all places, so that other clients get in.
"""

import asyncio
import threading
from collections import Counter, deque
from concurrent.futures import Future
from enum import Enum, auto
from typing import Any

from service.errors import Overloaded

# Uploads cost a connection and the bytes received. Eight times the default of 64 posts stays below the usual limit of
# 1024 open files.
_UPLOADS_PER_POST = 8
_BATCHES_SHARE = 2  # all batches together can take half of the places
_BATCH_SHARE = 8  # one of them an eighth


class _Stage(Enum):
    UPLOAD = auto()  # a request whose body is being received, or one with a batch of posts
    POST = auto()
    BATCH_POST = auto()


class Limiter:
    """Hands out permits.

    Args:
        max_posts: posts that may be pending, each received in full; eight times as many may be uploading.
        max_bytes: limit on ``bytes_held``, the bytes received of all their bodies; at least the largest body.
    """

    def __init__(self, max_posts: int, max_bytes: int) -> None:
        self._max_posts = max_posts
        self._max_bytes = max_bytes
        self._max_batch_posts = max(1, max_posts // _BATCHES_SHARE)
        self.max_posts_of_batch = max(1, max_posts // _BATCH_SHARE)
        self._held: Counter[_Stage] = Counter()
        self._waiting: deque[_Turn] = deque()
        self.bytes_held = 0
        self._lock = threading.Lock()  # a worker thread may release a permit

    @property
    def permits_held(self) -> int:
        """Posts that are uploading or pending now."""
        return self._held.total()

    def acquire(self, max_size: int) -> "Permit":
        """Admit a request whose body has at most ``max_size`` bytes, which count as they arrive.

        Raises:
            Overloaded: a limit is reached.
        """
        max_uploads = _UPLOADS_PER_POST * self._max_posts
        with self._lock:
            self._check_posts()
            self._check_bytes(max_size)
            uploads = self._held[_Stage.UPLOAD]
            if uploads >= max_uploads:
                raise Overloaded(f"{uploads} posts are being received; the limit is {max_uploads}")
            self._held[_Stage.UPLOAD] += 1
        return Permit(self, _Stage.UPLOAD)

    @property
    def _posts(self) -> int:
        return self._held[_Stage.POST] + self._held[_Stage.BATCH_POST]

    def _check_posts(self) -> None:
        if self._posts >= self._max_posts:
            raise Overloaded(f"{self._posts} posts are being answered; the limit is {self._max_posts}")

    def _check_bytes(self, size: int) -> None:
        if self.bytes_held + size > self._max_bytes:
            raise Overloaded(
                f"the posts being answered have {self.bytes_held} bytes, this one adds {size}; "
                f"the limit is {self._max_bytes}"
            )

    async def _take_batch_place(self) -> None:
        """Wait for a place for a post of a batch; places are given in order of arrival."""
        with self._lock:
            turn = _Turn()
            self._waiting.append(turn)
            self._give_places()
        try:
            await turn.came
        except asyncio.CancelledError:
            with self._lock:
                self._forgo(turn)
            raise

    def _forgo(self, turn: "_Turn") -> None:
        if turn.given:
            self._held[_Stage.BATCH_POST] -= 1
            self._give_places()
        else:
            self._waiting.remove(turn)

    def _give_places(self) -> None:
        """Give free places to those that wait."""
        while self._waiting and self._posts < self._max_posts and self._held[_Stage.BATCH_POST] < self._max_batch_posts:
            self._held[_Stage.BATCH_POST] += 1
            self._waiting.popleft().give()


class _Turn:
    """A post of a batch that waits for a place."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.came: asyncio.Future[None] = self._loop.create_future()
        self.given = False

    def give(self) -> None:
        """Wake the post; any thread may call this."""
        self.given = True
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.came.done():  # else the post was canceled
            self.came.set_result(None)


class Permit:
    """Allows one request or post to be in progress; leaving its ``with`` block releases it."""

    def __init__(self, limiter: Limiter, stage: _Stage, *, size: int = 0) -> None:
        self._limiter = limiter
        self._stage = stage
        self._size = size
        self._work: Future[Any] | None = None

    def add_bytes(self, size: int) -> None:
        """Count ``size`` more bytes of the body.

        Raises:
            Overloaded: they exceed the limit on all posts' bytes.
        """
        limiter = self._limiter
        with limiter._lock:
            limiter._check_bytes(size)
            limiter.bytes_held += size
            self._size += size

    def mark_received(self) -> None:
        """Count the post, which has arrived in full, as pending instead of uploading.

        Raises:
            Overloaded: too many others are pending.
        """
        limiter = self._limiter
        with limiter._lock:
            limiter._check_posts()
            limiter._held[self._stage] -= 1
            self._stage = _Stage.POST
            limiter._held[self._stage] += 1

    async def admit_post(self, size: int) -> "Permit":
        """A permit for one post of a batch, which takes over ``size`` bytes; waits until there is a place."""
        await self._limiter._take_batch_place()
        self._size -= size
        return Permit(self._limiter, _Stage.BATCH_POST, size=size)

    def hold_until_done(self, work: Future[Any]) -> None:
        """Delay the release until ``work`` is done, since a thread cannot be stopped when its post is canceled."""
        self._work = work

    def __enter__(self) -> "Permit":
        return self

    def __exit__(self, *_: object) -> None:
        if self._work is None:
            self._release()
        else:
            self._work.add_done_callback(lambda _: self._release())  # immediately if it is done

    def _release(self) -> None:
        limiter = self._limiter
        with limiter._lock:
            limiter.bytes_held -= self._size
            limiter._held[self._stage] -= 1
            limiter._give_places()
