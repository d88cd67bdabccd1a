"""Where answers go: appended to a file, which may hold those of an interrupted run, or written to a pipe."""

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from model.post_files.answers import EarlierAnswer, begins_an_answer, read_answer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_STANDARD_OUTPUT = ("-", "/dev/stdout")
_CHUNK_BYTES = 2**20
_BEGINNING_BYTES = 2**16  # enough to tell an answer from something else
_MAX_ANSWER_BYTES = 2**28


class AnswerStream:
    """Answers that go to a pipe.

    Args:
        compress: each :meth:`append` makes a gzip member of its own, so an interruption can damage only the last one.
    """

    def __init__(self, file: IO[bytes], *, compress: bool) -> None:
        self._file = file
        self._compress = compress

    def earlier(self) -> Iterator[EarlierAnswer]:
        """The answers of an interrupted run, to be read to the end before the first :meth:`append`."""
        yield from ()

    def append(self, lines: bytes) -> None:
        """Write whole lines, for a reader to see at once."""
        self._file.write(gzip.compress(lines, mtime=0) if self._compress else lines)
        self._file.flush()


class AnswerFile(AnswerStream):
    """Answers in a file; what is in it already stays there.

    Raises:
        FileExistsError: the file holds something other than answers; also from :meth:`earlier`.
    """

    def __init__(self, file: IO[bytes], *, compress: bool) -> None:
        super().__init__(file, compress=compress)
        try:
            self._whole = _scan_members(file) if compress else _scan_lines(file)
        except zlib.error as error:
            raise _no_answers(file) from error
        if not begins_an_answer(self._whole.rest):
            raise _no_answers(file)

    def earlier(self) -> Iterator[EarlierAnswer]:
        """The answers in the file; at their end, an answer that an interruption cut off is removed."""
        self._file.seek(0)
        with gzip.open(self._file) if self._compress else nullcontext(self._file) as lines:
            for line in islice(iter(lambda: lines.readline(_MAX_ANSWER_BYTES), b""), self._whole.lines):
                found = read_answer(line)
                if found is None:
                    raise _no_answers(self._file)
                yield found
        self._file.seek(self._whole.size)
        self._file.truncate()


@contextmanager
def open_answers(output: str) -> Iterator[AnswerStream]:
    """Open a file or a pipe for answers; ``-`` is standard output. A file whose name ends in ``.gz`` is gzipped.

    Raises:
        FileExistsError: the file holds something other than answers.
        BlockingIOError: another run is writing to the file.
    """
    compress = output.endswith(".gz")
    if output in _STANDARD_OUTPUT:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        yield AnswerStream(sys.stdout.buffer, compress=False)
    elif Path(output).exists() and not Path(output).is_file():
        with Path(output).open("wb") as file:
            yield AnswerStream(file, compress=compress)
    else:
        with open(output, "r+b", opener=_open_or_create) as file:
            _lock(file)
            yield AnswerFile(file, compress=compress)


def is_same_file(source: str, output: str) -> bool:
    """Whether the answers would go into the file that the posts come from, under whatever names; ``-`` as elsewhere."""
    try:
        read = os.stat(0 if source == "-" else source)
        written = os.stat(1 if output == "-" else output)
    except OSError:
        return False  # there is no output yet
    return stat.S_ISREG(read.st_mode) and os.path.samestat(read, written)


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(file: IO[bytes]) -> None:
    """Keep other runs out until the file is closed."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{file.name} is being written by another run; choose another name") from error
    except OSError:
        return  # a file system without locks


def _no_answers(file: IO[bytes]) -> FileExistsError:
    return FileExistsError(f"{file.name} exists but does not hold answers to resume from; choose another name")


@dataclass(slots=True)
class _Whole:
    """The part of a file that was not cut off: how many lines and bytes, and what follows, at least its beginning."""

    lines: int = 0
    size: int = 0
    rest: bytes = b""


def _scan_lines(file: IO[bytes]) -> _Whole:
    whole = _Whole()
    while chunk := file.read(_CHUNK_BYTES):
        last = chunk.rfind(b"\n") + 1
        if last:
            whole = _Whole(whole.lines + chunk.count(b"\n"), file.tell() - len(chunk) + last)
    file.seek(whole.size)
    whole.rest = file.read(_MAX_ANSWER_BYTES)
    return whole


def _scan_members(file: IO[bytes]) -> _Whole:
    """As :func:`_scan_lines`, of a gzip file, of which members are cut off and not lines."""
    whole, member, lines, last = _Whole(), _new_member(), 0, b"\n"
    while chunk := file.read(_CHUNK_BYTES):
        while chunk:
            content = member.decompress(chunk)
            chunk = member.unused_data
            lines += content.count(b"\n")
            last = content[-1:] or last
            whole.rest = (whole.rest + content)[:_BEGINNING_BYTES]
            if member.eof:
                if last != b"\n":
                    raise zlib.error("the member ends within a line")
                whole, member = _Whole(lines, file.tell() - len(chunk)), _new_member()
    return whole


def _new_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # with gzip's header and checksum
