"""How much is taken on at once, in posts and in bytes; more is refused at the door, before its photo is read."""

import threading
from concurrent.futures import Future
from typing import Any

from service.errors import Overloaded


class Gate:
    """Counts the posts between the door and their answer.

    Args:
        limit: posts inside at once.
        byte_limit: bytes of their bodies together, at least those of a single one.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit = limit
        self.byte_limit = byte_limit
        self._inside = 0
        self._bytes = 0
        self._lock = threading.Lock()  # a slot may be given back by a worker's thread

    @property
    def inside(self) -> int:
        """Posts that have a slot now."""
        return self._inside

    @property
    def bytes_inside(self) -> int:
        """Bytes of the bodies of those posts."""
        return self._bytes

    def enter(self, size: int) -> "Slot":
        """Take a slot for a post whose body has ``size`` bytes, or may have as many.

        Raises:
            Overloaded: none is free.
        """
        with self._lock:
            if self._inside >= self.limit:
                raise Overloaded(f"{self._inside} posts are being answered, no more than {self.limit} at once")
            if self._bytes + size > self.byte_limit:
                raise Overloaded(
                    f"posts of {self._bytes} bytes are being answered, with the {size} of this one more than the "
                    f"{self.byte_limit} at once"
                )
            self._inside += 1
            self._bytes += size
        return Slot(self, size)

    def _leave(self, size: int) -> None:
        with self._lock:
            self._inside -= 1
            self._bytes -= size


class Slot:
    """One post's place inside; ``with`` gives it back."""

    def __init__(self, gate: Gate, size: int) -> None:
        self._gate = gate
        self._size = size
        self._work: Future[Any] | None = None

    def holds(self, work: Future[Any]) -> None:
        """Keep the slot until ``work`` is over, even if its post is given up: a thread cannot be stopped."""
        self._work = work

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        if self._work is None:
            self._gate._leave(self._size)
        else:
            self._work.add_done_callback(lambda _: self._gate._leave(self._size))  # at once if it is done
