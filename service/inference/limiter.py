"""Limits how many posts, and how many bytes of them, are in progress; more are refused before their bodies are read.

A post counts as pending only once it has arrived in full, so slow uploads do not keep others from the model.
"""

import threading
from concurrent.futures import Future
from typing import Any

from service.errors import Overloaded

# Uploads cost a connection and the bytes received. Eight times the default of 64 posts stays below the usual limit of
# 1024 open files.
_UPLOADS_PER_POST = 8


class Limiter:
    """Hands out permits.

    Args:
        max_posts: posts that may be pending, each received in full; eight times as many may be uploading.
        max_bytes: limit on ``bytes_held``, the bytes received of all their bodies; at least the largest body.
    """

    def __init__(self, max_posts: int, max_bytes: int) -> None:
        self._max_posts = max_posts
        self._max_bytes = max_bytes
        self._uploads = 0
        self._posts = 0
        self.bytes_held = 0
        self._lock = threading.Lock()  # a worker thread may release a permit

    @property
    def permits_held(self) -> int:
        """Posts that are uploading or pending now."""
        return self._uploads + self._posts

    def acquire(self, max_size: int) -> "Permit":
        """Admit a post whose body has at most ``max_size`` bytes, which count as they arrive.

        Raises:
            Overloaded: a limit is reached.
        """
        max_uploads = _UPLOADS_PER_POST * self._max_posts
        with self._lock:
            self._check_posts()
            self._check_bytes(max_size)
            if self._uploads >= max_uploads:
                raise Overloaded(f"{self._uploads} posts are being received; the limit is {max_uploads}")
            self._uploads += 1
        return Permit(self)

    def _check_posts(self) -> None:
        if self._posts >= self._max_posts:
            raise Overloaded(f"{self._posts} posts are being answered; the limit is {self._max_posts}")

    def _check_bytes(self, size: int) -> None:
        if self.bytes_held + size > self._max_bytes:
            raise Overloaded(
                f"the posts being answered have {self.bytes_held} bytes, this one adds {size}; "
                f"the limit is {self._max_bytes}"
            )


class Permit:
    """Allows one post to be in progress; leaving its ``with`` block releases it."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._size = 0
        self._received = False
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
            limiter._uploads -= 1
            limiter._posts += 1
            self._received = True

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
            if self._received:
                limiter._posts -= 1
            else:
                limiter._uploads -= 1
