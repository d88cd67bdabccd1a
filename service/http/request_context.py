"""What is known of one request while it is answered: its id, its deadline and the time each stage took."""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("receive", "decode", "queue", "model")

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """One request's clock and name.

    Args:
        given_id: the client's ``X-Request-ID``; kept only if it is safe to log and to send back.
        deadline_seconds: the time from now in which the request must be answered.
    """

    def __init__(self, given_id: str, *, deadline_seconds: float) -> None:
        self.request_id = given_id if _SAFE_ID.fullmatch(given_id) else secrets.token_hex(16)
        self.started = time.monotonic()
        self.deadline = self.started + deadline_seconds
        self.stages: dict[str, float] = {}
        self.code: str | None = None  # of the problem that was answered, if one was

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self.started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, also one that fails or is given up."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.record(name, time.monotonic() - begun)

    def record(self, name: str, seconds: float) -> None:
        """Note that a stage took ``seconds``."""
        self.stages[name] = seconds

    def server_timing(self) -> str:
        """The ``Server-Timing`` header: the stages that were reached and the total, in milliseconds."""
        timings = {**self.stages, "total": self.elapsed}
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in timings.items())
