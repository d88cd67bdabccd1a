"""API keys from a file, one per line; a line that begins with ``#`` is a comment."""

import hashlib
import hmac
import re
import threading
from codecs import BOM_UTF8
from pathlib import Path

import structlog

log = structlog.get_logger()

_CHECK_SECONDS = 1.0  # between two looks at the file

# What clients can send behind "Bearer ", which is more than RFC 6750, section 2.1, lets them send.
_SENDABLE = re.compile(rb"[!-~]+")


class KeyFile:
    """The keys of a file; within a ``with`` block it is reloaded when it changes, so that keys can be rotated.

    A thread of its own does that, so that a slow or hanging file system delays neither requests nor shutdown.

    Raises:
        ValueError: the file has no key, or one that no client can send.
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
        digest = _digest(key.encode("utf-8", "surrogateescape"))
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
                log.warning("API keys cannot be read, keeping the old ones", detail=str(error))
            self._unreadable = True

    def _watch(self) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            self.reload_if_changed()

    def _file_version(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()  # the same length for every key


def _read_digests(path: Path) -> list[bytes]:
    lines = [line.strip() for line in path.read_bytes().removeprefix(BOM_UTF8).split(b"\n")]
    keys = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith(b"#")}
    for number, key in keys.items():
        if not _SENDABLE.fullmatch(key):  # the error must not have the key
            raise ValueError(
                f"{path}, line {number}: no client can send this key, since it has other characters than ASCII "
                "letters, digits and punctuation; a comment needs a line of its own"
            )
    if not keys:
        raise ValueError(f"{path} has no key")
    return [_digest(key) for key in keys.values()]
