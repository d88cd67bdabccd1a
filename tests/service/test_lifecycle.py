from types import SimpleNamespace
from typing import Any

from service.lifecycle import Lifecycle


def test_shutdown_is_unready_first_then_drains() -> None:
    engine: Any = SimpleNamespace(ready=True, alive=True)
    lifecycle = Lifecycle(engine)
    assert (lifecycle.not_ready_reason, lifecycle.refusal_reason) == (None, None)
    lifecycle.shut_down(delay=60)
    assert (lifecycle.not_ready_reason, lifecycle.refusal_reason) == ("the service is shutting down", None)
    lifecycle.shut_down(delay=0)
    assert lifecycle.refusal_reason == "the service is shutting down"
    assert lifecycle.drained_for >= 0
