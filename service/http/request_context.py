"""The state of one request: its id, deadline, stage times and problem."""

import re
import secrets
import time

from service.inference import stage_times
from service.inference.deadline import Deadline
from service.inference.stage_times import StageTimes

STAGES = ("receive", *stage_times.STAGES)

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """What the middleware, the routes and the exception handlers share about a request.

    Args:
        given_id: the client's ``X-Request-ID``; used only if it is safe to log and to send back.
        deadline_seconds: how long the request may take from now on.
    """

    def __init__(self, given_id: str, *, deadline_seconds: float) -> None:
        self.request_id = given_id if _SAFE_ID.fullmatch(given_id) else secrets.token_hex(16)
        self.deadline = Deadline(time.monotonic(), deadline_seconds)
        self.stage_times = StageTimes()
        self.code: str | None = None  # of the problem it was answered with

    def server_timing(self) -> str:
        """The ``Server-Timing`` header: the stages reached and the total, in milliseconds."""
        timings = {**self.stage_times, "total": self.deadline.elapsed}
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in timings.items())
