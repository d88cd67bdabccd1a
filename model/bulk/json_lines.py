"""JSON lines, plain, gzipped or compressed with Zstandard: read and answered as single files are."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import pyarrow

from model.bulk.counts import Counts
from model.entities import Entity
from model.errors import InvalidPostFile
from model.post_files.answers import answer_line, read_answer
from model.post_files.input_lines import Line, lines_in
from model.post_files.post_fields import OpenPhoto
from model.post_files.post_line import PreparedLine, prepare_line
from model.recognizer import Recognizer

_BUFFER_BYTES = 2**22  # of a file in a store
_ZSTANDARD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # RFC 8878: a frame, or one to be skipped


class JSONLines:
    """See :class:`model.bulk.formats.Format`."""

    def read(self, file: IO[bytes], name: str, row_groups: Sequence[int] | None, first_row: int) -> Iterator[Line]:
        assert row_groups is None
        assert first_row == 0
        yield from lines_in(_unpacked(file), name)

    def prepare(self, recognizer: Recognizer, post: Line, open_photo: OpenPhoto) -> PreparedLine:
        return prepare_line(recognizer, post, open_photo)

    @contextmanager
    def writer(self, path: Path, name: str, checkpoint: str) -> Iterator["_Writer"]:
        del checkpoint  # lines have no place for it
        with path.open("wb") as file, _packing(file, name) as packed:
            yield _Writer(packed)

    def count(self, file: IO[bytes], name: str) -> Counts:
        return sum((_count(line.content, name) for line in lines_in(_unpacked(file), name)), Counts())


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def append(self, lines: Sequence[PreparedLine], answers: Sequence[Sequence[Entity]]) -> None:
        self._file.write(b"".join(answer_line(*pair) for pair in zip(lines, answers, strict=True)))


def _unpacked(file: IO[bytes]) -> BufferedReader:
    """Without Zstandard, if the content begins with it; what is gzipped is found by :func:`lines_in`."""
    buffered = file if isinstance(file, BufferedReader) else BufferedReader(cast(Any, file), _BUFFER_BYTES)
    if _ZSTANDARD.match(buffered.peek(4)) is None:
        return buffered
    return BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(buffered, "r"), "zstd"))


@contextmanager
def _packing(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    if name.endswith(".gz"):
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:  # without name and time: always the same bytes
            yield cast(IO[bytes], packed)
    elif name.endswith(".zst"):
        with pyarrow.CompressedOutputStream(pyarrow.PythonFile(file, "w"), "zstd") as packed:
            yield packed
    else:
        yield file


def _count(line: bytes | None, name: str) -> Counts:
    if line is None or read_answer(line) is None:
        raise InvalidPostFile(f"{name} holds something other than answers")
    record = json.loads(line)
    if "error" in record:
        return Counts(posts=1, failed=1)
    return Counts(posts=1, images_used=int(record["image_used"]), entities=len(record["entities"]))
