"""The time by which a request must be answered."""

import time
from dataclasses import dataclass

from service.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """The start of a request and the seconds that it may take; moments are those of :func:`time.monotonic`."""

    started: float
    seconds: float

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self.started

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.elapsed >= self.seconds

    def error(self) -> DeadlineExceeded:
        """The error for a request that was not answered in time."""
        return DeadlineExceeded(seconds=self.elapsed, limit=self.seconds)
