"""Measures how long each stage of a post takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "queue", "model")  # of inference


class StageTimes(dict[str, float]):
    """Stage → seconds. The caller owns it, so that it has the times of a post that fails or is canceled, too."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Record the time that the block takes, even if it raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            self[stage] = time.monotonic() - started
