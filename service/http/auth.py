"""API keys from a file, one per line; ``#`` begins a comment."""

import hashlib
import hmac
import threading
from pathlib import Path

import structlog

log = structlog.get_logger()

_CHECK_SECONDS = 1.0  # between two looks at the file


class KeyFile:
    """The keys of a file; within a ``with`` block it is reloaded when it changes, so that keys can be rotated.

    A thread of its own does that, so that a slow or hanging file system delays neither requests nor shutdown.

    Raises:
        ValueError: the file has no key.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._file_version()
        self._digests = _read_digests(path)
        self._unreadable = False
        self._stopped = threading.Event()

    def accepts(self, key: str) -> bool:
        """Whether ``key`` is in the file; takes the same time however much of it is right."""
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # always all of them
        return any(matches)

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="api-keys", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()  # without waiting for the thread, which may hang

    def reload_if_changed(self) -> None:
        """Read the file if it has changed; if that fails, keep the old keys, since it may be half-written."""
        try:
            version = self._file_version()
            if version != self._version:
                self._digests = _read_digests(self._path)
                self._version = version
                log.info("API keys reloaded", keys=len(self._digests))
            self._unreadable = False
        except (OSError, ValueError) as error:
            if not self._unreadable:  # else it would be logged every second
                log.warning("API keys cannot be read, keeping the old ones", error=type(error).__name__)
            self._unreadable = True

    def _watch(self) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            self.reload_if_changed()

    def _file_version(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()  # the same length for every key


def _read_digests(path: Path) -> list[bytes]:
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    keys = [line for line in lines if line]
    if not keys:
        raise ValueError(f"{path} has no key")
    return [_digest(key) for key in keys]
