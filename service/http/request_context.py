"""The state of one request: its id, deadline, stage times and problem."""

import asyncio
import re
import secrets
import time

from opentelemetry.trace import Span

from service.inference import stage_times
from service.inference.deadline import Deadline
from service.inference.stage_times import StageTimes

STAGES = ("receive", *stage_times.STAGES)

_ANSWER_SECONDS = 1.0  # to send what is known of a batch whose posts have reached the deadline

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
        self.client: str | None = None  # whose key it had; None where no key is needed
        self.posts = 1  # more in a batch
        self.span: Span | None = None  # if the request is traced
        self.details: dict[str, int] = {}  # for the log
        self.timeout: asyncio.Timeout | None = None  # ends the request at the deadline

    def outlast_deadline(self) -> None:
        """Give a request whose parts mind the deadline themselves a moment more, so that it can still be answered."""
        if self.timeout is not None and (when := self.timeout.when()) is not None:
            self.timeout.reschedule(when + _ANSWER_SECONDS)

    def server_timing(self) -> str:
        """The ``Server-Timing`` header: the stages reached and the total, in milliseconds."""
        timings = {**self.stage_times, "total": self.deadline.elapsed}
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in timings.items())
