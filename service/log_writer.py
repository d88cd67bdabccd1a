"""Writes log lines in a thread of its own, so that a reader of the log that hangs does not stop the service."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

import structlog

log = structlog.get_logger()

_MAX_LINES = 8192  # 4 MiB, if a line has half a KiB
_CLOSE_SECONDS = 1.0


class LogWriter:
    """A stream for a logging handler, whose ``write`` never waits. What does not fit is dropped and counted.

    Args:
        stream: where the lines go.
        max_lines: how many may wait while the stream blocks.
    """

    def __init__(self, stream: TextIO, *, max_lines: int = _MAX_LINES) -> None:
        self._stream = stream
        self._max_lines = max_lines
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._dropped = 0
        self._told = 0  # of those dropped
        self._on_drop: Callable[[int], object] = lambda _: None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def on_drop(self, count: Callable[[int], object]) -> None:
        """Call ``count`` with the number of lines dropped until now, and of each that will be."""
        with self._counting:
            self._on_drop = count
            count(self._dropped)

    def write(self, line: str) -> None:
        if self._waiting.qsize() < self._max_lines:
            self._waiting.put(line)
        else:
            self._drop()

    def flush(self) -> None:
        """For the handler; the thread flushes."""

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Write what waits, but give up after some seconds."""
        self._waiting.put(None)
        self._thread.join(seconds)

    def _drop(self) -> None:
        with self._counting:
            self._dropped += 1
            self._on_drop(1)

    def _run(self) -> None:
        """Write one line at a time, since only short writes to a pipe are not torn apart by others (pipe(7))."""
        for line in iter(self._waiting.get, None):
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # its reader is gone, or it is closed; the service goes on
                self._drop()
            else:
                self._tell_dropped()

    def _tell_dropped(self) -> None:
        """Log how many lines are missing, now that lines can be written again."""
        dropped = self._dropped
        if dropped > self._told:
            log.warning("log lines dropped, since they were not read", lines=dropped - self._told)
            self._told = dropped
