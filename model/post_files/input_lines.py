"""The lines of a file of posts, read as they come: from a file, a pipe or standard input, plain or gzipped."""

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from model.errors import InvalidPostFile

MAX_LINE_BYTES = 2**24
_STANDARD_INPUT = ("-", "/dev/stdin")
_GZIP = b"\x1f\x8b"
_OTHER_FORMATS = {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"PK\x03\x04": "a ZIP file",
}
_DIGEST_BYTES = 8  # hexadecimal in every answer, so no longer than it must be


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank.

    Attributes:
        number: counts from 1, blank lines included.
        content: without white space around it; None if the line is longer than ``MAX_LINE_BYTES``.
        digest: of the content, or of a longer line without its line end: tells whether the line is still the same when
            a run resumes.
    """

    number: int
    content: bytes | None
    digest: str


def check_source(source: str) -> None:
    """Fail before the slow loading of a checkpoint; :func:`read_lines` opens the file only when it is asked for lines.

    Raises:
        OSError: there is no such file, or it is a folder.
    """
    if source in _STANDARD_INPUT:
        return
    if Path(source).is_dir():
        raise IsADirectoryError(f"{source} is a folder, not a file of posts")
    os.stat(source)


def read_lines(source: str) -> Iterator[Line]:
    """Read a file line by line; ``-`` is standard input. Whether it is gzipped is told by its content.

    A byte order mark before a line is ignored.

    Raises:
        InvalidPostFile: the gzip data are damaged, after all whole lines before the damage; or the file is of a format
            that is not read.
    """
    with _open(source) as file:
        yield from lines_in(file, source_name(source))


def lines_in(file: BufferedReader, name: str) -> Iterator[Line]:
    """As :func:`read_lines`, of an open file that messages call ``name``."""
    number = 0
    try:
        with _unpacked(file, name) as content:
            while (line := _read_line(content, number + 1)) is not None:
                number = line.number
                if line.content != b"":
                    yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidPostFile(f"{name}: the gzip data are damaged after line {number}: {error}") from error


def source_name(source: str) -> str:
    """What messages call it."""
    return "standard input" if source in _STANDARD_INPUT else source


def count_posts(source: str) -> int | None:
    """How many lines :func:`read_lines` will read; None for pipes, which are read only once, and damaged files."""
    try:
        return sum(1 for _ in read_lines(source)) if Path(source).is_file() else None
    except InvalidPostFile:
        return None


def image_folder(source: str) -> Path:
    """The folder that the photos' paths start from: the file's own; the current one if the posts come from a pipe."""
    named = source not in _STANDARD_INPUT and Path(source).is_file() and not source.startswith(("/dev/", "/proc/"))
    return Path(source).parent if named else Path()


def _open(source: str) -> BufferedReader:
    return _standard_input() if source in _STANDARD_INPUT else Path(source).open("rb")


@contextmanager
def _unpacked(file: BufferedReader, name: str) -> Iterator[BufferedIOBase]:
    head = file.peek(8)
    for signature, format_ in _OTHER_FORMATS.items():
        if head.startswith(signature):
            raise InvalidPostFile(f"{name} is {format_}; posts are read as UTF-8, plain or gzipped")
    if head and head.startswith(_GZIP[: len(head)]):  # a pipe may have brought one byte so far
        with gzip.open(file) as unpacked:
            yield unpacked
    else:
        yield file


def _standard_input() -> BufferedReader:
    """A file of its own: at exit, Python would wait for a thread that is reading ``sys.stdin``."""
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return open(os.dup(sys.stdin.fileno()), "rb")


def _read_line(file: BufferedIOBase, number: int) -> Line | None:
    line = file.readline(MAX_LINE_BYTES + 1)
    if not line:
        return None
    if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
        return Line(number, None, _skip_line(file, line.removeprefix(codecs.BOM_UTF8)))
    content = line.removeprefix(codecs.BOM_UTF8).strip()
    return Line(number, content, blake2b(content, digest_size=_DIGEST_BYTES).hexdigest())


def _skip_line(file: BufferedIOBase, piece: bytes) -> str:
    """Read the rest of a line that begins with ``piece``, without keeping it; returns its digest without the line end.

    The last line of a file may get a line end later, when posts are added.
    """
    digest, end = blake2b(digest_size=_DIGEST_BYTES), b""
    while piece:
        piece = end + piece
        content = piece.removesuffix(b"\n").removesuffix(b"\r")
        digest.update(content)
        end = piece[len(content) :]
        piece = b"" if end.endswith(b"\n") else file.readline(MAX_LINE_BYTES)
    return digest.hexdigest()
