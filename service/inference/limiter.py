"""How much is taken on at once, in posts and in bytes; more is refused at the door, before its photo is read.

A post takes its place among those that are answered only when it has arrived in full: a client that trickles bytes
keeps nobody from the model.
"""

import threading
from concurrent.futures import Future
from typing import Any

from service.errors import Overloaded

# Uploads on their way for each post that may be answered. They cost a connection and the bytes that have come, and
# eight times the default of 64 stays below the usual limit of 1024 open files.
_UPLOADS_PER_POST = 8


class Gate:
    """Counts the posts between the door and their answer.

    Args:
        limit: posts that are answered at once, each received in full; eight times as many may be on their way.
        byte_limit: bytes that have come of all their bodies together, at least those of a single one.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit = limit
        self.byte_limit = byte_limit
        self._uploads = 0
        self._posts = 0
        self._bytes = 0
        self._lock = threading.Lock()  # a slot may be given back by a worker's thread

    @property
    def inside(self) -> int:
        """Posts that have a slot now, whether they are on their way or being answered."""
        return self._uploads + self._posts

    @property
    def bytes_inside(self) -> int:
        """Bytes that have come of the bodies of those posts."""
        return self._bytes

    def enter(self, announced: int) -> "Slot":
        """Let in a post whose body has ``announced`` bytes, or may have as many; they count as they arrive.

        Raises:
            Overloaded: there is no room for it now.
        """
        with self._lock:
            self._check_posts()
            self._check_bytes(announced)
            uploads = _UPLOADS_PER_POST * self.limit
            if self._uploads >= uploads:
                raise Overloaded(f"{self._uploads} posts are being received, no more than {uploads} at once")
            self._uploads += 1
        return Slot(self)

    def _check_posts(self) -> None:
        if self._posts >= self.limit:
            raise Overloaded(f"{self._posts} posts are being answered, no more than {self.limit} at once")

    def _check_bytes(self, size: int) -> None:
        if self._bytes + size > self.byte_limit:
            raise Overloaded(
                f"posts of {self._bytes} bytes are being answered, with the {size} of this one more than the "
                f"{self.byte_limit} at once"
            )


class Slot:
    """One post's place inside; ``with`` gives it back."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._size = 0
        self._complete = False
        self._work: Future[Any] | None = None

    def arrived(self, size: int) -> None:
        """Count ``size`` more bytes of the body.

        Raises:
            Overloaded: they are too many, with those of the other posts.
        """
        gate = self._gate
        with gate._lock:
            gate._check_bytes(size)
            gate._bytes += size
            self._size += size

    def complete(self) -> None:
        """Take the place of a post that has been received and waits for its answer.

        Raises:
            Overloaded: meanwhile others have taken the last one.
        """
        gate = self._gate
        with gate._lock:
            gate._check_posts()
            gate._uploads -= 1
            gate._posts += 1
            self._complete = True

    def holds(self, work: Future[Any]) -> None:
        """Keep the slot until ``work`` is over, even if its post is given up: a thread cannot be stopped."""
        self._work = work

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        if self._work is None:
            self._leave()
        else:
            self._work.add_done_callback(lambda _: self._leave())  # at once if it is done

    def _leave(self) -> None:
        gate = self._gate
        with gate._lock:
            gate._bytes -= self._size
            if self._complete:
                gate._posts -= 1
            else:
                gate._uploads -= 1
