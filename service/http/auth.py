"""API keys and the names of the clients that have them: a file of ``NAME:KEY`` lines, where ``#`` begins a comment.

A line that is only a key belongs to a client called "unnamed".
"""

import hashlib
import hmac
import re
import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog

log = structlog.get_logger()

_CHECK_SECONDS = 1.0  # between two looks at the file

_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # safe in a log and as a metric's label
# What clients can send behind "Bearer ", which is more than RFC 6750, section 2.1, lets them send.
_SENDABLE = re.compile(rb"[!-~]+")


class KeyFile:
    """The keys of a file; within a ``with`` block it is reloaded when it changes, so that keys can be rotated.

    A thread of its own does that, so that a slow or hanging file system delays neither requests nor shutdown.

    Args:
        path: of the file.
        on_names: called with the names of all clients, now and after each reload.

    Raises:
        ValueError: the file has no key, or a line that is neither ``NAME:KEY`` nor a key.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, on_names: Callable[[frozenset[str]], None] = lambda _: None) -> None:
        self._path = path
        self._on_names = on_names
        self._version = self._file_version()
        self._clients = _read_clients(path)
        self._fault: str | None = None  # why the file cannot be read
        self._stopped = threading.Event()
        on_names(self._names)

    def client(self, key: str) -> str | None:
        """The name of the client that has ``key``; takes the same time however much of it is right."""
        digest = _digest(key.encode("utf-8", "surrogateescape"))
        matches = [name for known, name in self._clients.items() if hmac.compare_digest(digest, known)]  # always all
        return matches[0] if matches else None

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="api-keys", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()  # without waiting for the thread, which may hang

    def reload_if_changed(self) -> None:
        """Read the file if it has changed; if that fails, keep the old keys, since it may be half-written."""
        try:
            version = self._file_version()
            if version != self._version:
                self._clients = _read_clients(self._path)
                self._version = version
                self._on_names(self._names)
                log.info("API keys reloaded", keys=len(self._clients), clients=sorted(self._names))
            self._fault = None
        except (OSError, ValueError) as error:
            if str(error) != self._fault:  # else it would be logged every second
                log.warning("API keys cannot be read, keeping the old ones", detail=str(error))
            self._fault = str(error)

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(self._clients.values())

    def _watch(self) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            self.reload_if_changed()

    def _file_version(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()  # the same length for every key


def _read_clients(path: Path) -> Mapping[bytes, str]:
    """The digest of each key → the name of its client; several keys may have the same name."""
    clients: dict[bytes, str] = {}
    for number, line in _lines(path):
        try:
            _add_client(clients, line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not clients:
        raise ValueError(f"{path} has no key")
    return clients


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are no comments, with their numbers."""
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).split(b"\n"), 1):
        if (line := line.strip()) and not line.startswith(b"#"):
            yield number, line


def _add_client(clients: dict[bytes, str], line: bytes) -> None:
    """Add the client of a line; the errors must repeat nothing of it, since a misplaced key may be anywhere."""
    name, colon, key = line.partition(b":")
    if not colon:
        name, key = b"unnamed", line
    if not _NAME.fullmatch(name):
        raise ValueError(
            "the name of the client before the colon has 1 to 64 ASCII letters, digits, dots, hyphens and underscores"
        )
    if not _SENDABLE.fullmatch(key):
        raise ValueError(
            "no client can send this key, since it is empty or has other characters than ASCII letters, digits and "
            "punctuation; a comment needs a line of its own"
        )
    if clients.setdefault(_digest(key), name.decode()) != name.decode():
        raise ValueError("another client has this key in an earlier line")
