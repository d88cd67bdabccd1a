"""How many posts are taken on at once; one more is refused at the door, before its photo is read."""

import threading
from concurrent.futures import Future
from typing import Any

from service.errors import Overloaded


class Gate:
    """Counts the posts between the door and their answer.

    Args:
        limit: posts inside at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._inside = 0
        self._lock = threading.Lock()  # a slot may be given back by a worker's thread

    @property
    def inside(self) -> int:
        """Posts that have a slot now."""
        return self._inside

    def enter(self) -> "Slot":
        """Take a slot.

        Raises:
            Overloaded: none is free.
        """
        with self._lock:
            if self._inside >= self.limit:
                raise Overloaded(f"{self._inside} posts are being answered, no more than {self.limit} at once")
            self._inside += 1
        return Slot(self)

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1


class Slot:
    """One post's place inside; ``with`` gives it back."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._work: Future[Any] | None = None

    def holds(self, work: Future[Any]) -> None:
        """Keep the slot until ``work`` is over, even if its post is given up: a thread cannot be stopped."""
        self._work = work

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        if self._work is None:
            self._gate._leave()
        else:
            self._work.add_done_callback(lambda _: self._gate._leave())  # at once if it is done
