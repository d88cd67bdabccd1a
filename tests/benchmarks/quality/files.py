"""Files that several processes may write at the same time."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder``; not reentrant."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: str) -> None:
    """Replace a file of a locked folder; a process killed meanwhile leaves the old content."""
    partial = path.with_suffix(".part")
    partial.write_text(content, "utf-8")
    os.replace(partial, path)


def fingerprint(value: Any) -> str:
    """Twelve hex digits that tell JSON values apart."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
