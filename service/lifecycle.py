"""Whether the service accepts posts, from warm-up to shutdown."""

import math
import time

from service.inference.engine import Engine

_SHUTTING_DOWN = "the service is shutting down"


class Lifecycle:
    """At shutdown the service first only says that it is not ready, until load balancers notice; then it drains.

    While it drains, it finishes accepted posts and refuses others.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._drain_at = math.inf  # monotonic time

    def shut_down(self, *, delay: float) -> None:
        """Report not ready from now on, and start draining in ``delay`` seconds."""
        self._drain_at = time.monotonic() + delay

    @property
    def shutting_down(self) -> bool:
        """Whether :meth:`shut_down` was called."""
        return self._drain_at < math.inf

    @property
    def drained_for(self) -> float:
        """Seconds since draining began; negative before."""
        return time.monotonic() - self._drain_at

    @property
    def draining(self) -> bool:
        """Whether posts are refused because of a shutdown."""
        return self.drained_for >= 0

    @property
    def refusal_reason(self) -> str | None:
        """Why posts are refused; None while they are accepted."""
        if self.draining:
            return _SHUTTING_DOWN
        if self._engine.ready:
            return None
        return "the model is warming up" if self._engine.alive else "the model's thread is not running"

    @property
    def not_ready_reason(self) -> str | None:
        """Why clients should send no posts; None if they may."""
        return _SHUTTING_DOWN if self.shutting_down else self.refusal_reason
