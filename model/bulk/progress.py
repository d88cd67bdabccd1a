"""How far a run is: one line on a terminal that is always up to date, log lines elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from model.bulk.counts import Counts

LOG_SECONDS = 30.0


class ProgressReport:
    """Shows how many files and posts have been answered.

    Args:
        files, done: how many there are, and how many of them have been answered earlier.
        log: takes the lines, if standard error is no terminal.
    """

    def __init__(self, *, files: int, done: int, log: Callable[[str], None]) -> None:
        shown = sys.stderr is not None and sys.stderr.isatty()
        self._bar: tqdm[NoReturn] = tqdm(total=files, initial=done, unit="file", desc="recognizing", disable=not shown)
        self._log, self._shown = log, shown
        self._files, self._finished = files, done
        self._posts = 0
        self._start = self._logged = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def say(self, message: str) -> None:
        """A line of its own."""
        with self._bar.external_write_mode(sys.stderr):
            self._log(message)

    def update(self, counts: Counts, *, files: int = 0) -> None:
        """Count posts and files; what a dead worker has answered is counted again."""
        self._posts += counts.posts
        self._finished += files
        speed = self._posts / max(time.monotonic() - self._start, 1e-3)
        self._bar.set_postfix_str(f"{self._posts:,} posts, {speed:,.0f} posts/s", refresh=False)
        self._bar.update(files)
        if not self._shown and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            self._log(f"{self._finished:,} of {self._files:,} files, {self._posts:,} posts, {speed:,.0f} posts/s")
