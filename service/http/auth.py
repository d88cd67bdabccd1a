"""API keys from a file, one a line; ``#`` begins a comment. A changed file is read anew, so keys can be rotated."""

import hashlib
import hmac
import threading
import time
from pathlib import Path

import structlog

log = structlog.get_logger()

_CHECK_SECONDS = 1.0  # how often the file is looked at


class KeyFile:
    """The keys that are let in.

    Raises:
        ValueError: the file has no key.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._checked = time.monotonic()
        self._state = self._stat()
        self._digests = _read(path)

    def admits(self, key: str) -> bool:
        """Whether ``key`` is one of the file's, in a time that does not tell how much of it was right."""
        self._refresh()
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # all of them, always
        return any(matches)

    def _refresh(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._checked < _CHECK_SECONDS:
                return
            self._checked = now
            try:
                state = self._stat()
                if state != self._state:
                    self._digests = _read(self._path)
                    self._state = state
                    log.info("API keys read anew", keys=len(self._digests))
            except (OSError, ValueError) as error:  # half-written or gone: the keys that were known stay
                log.warning("API keys cannot be read, the old ones stay", error=type(error).__name__)

    def _stat(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()  # one length for all


def _read(path: Path) -> list[bytes]:
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    keys = [line for line in lines if line]
    if not keys:
        raise ValueError(f"{path} has no key")
    return [_digest(key) for key in keys]
