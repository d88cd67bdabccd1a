"""Measures how long each stage of a post takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "queue", "model")  # of inference


class StageTimes(dict[str, float]):
    """Stage → seconds. The caller owns it, so that it has the times of a post that fails or is canceled, too.

    Attributes:
        ends: stage → when it ended, as :func:`time.monotonic` has it.
        batch_size: posts in the batch that the post was run with; None before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, float] = {}
        self.batch_size: int | None = None

    def record(self, stage: str, started: float, ended: float) -> None:
        """Record a stage; both moments are those of :func:`time.monotonic`."""
        self[stage] = ended - started
        self.ends[stage] = ended

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Record the time that the block takes, even if it raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.record(stage, started, time.monotonic())
