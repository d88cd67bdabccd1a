"""Parquet files of posts, and the files of their answers, which have a row for each post and entities nested in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import pyarrow
from pyarrow import parquet

from model.bulk.counts import Counts
from model.bulk.table_rows import Row, read_rows
from model.entities import Entity
from model.errors import InvalidPostFile
from model.post_files.post_fields import OpenPhoto, attempt, read_post
from model.post_files.post_line import PreparedLine
from model.posts import Post
from model.recognizer import Recognizer

_GROUP_ROWS = 8192  # of answers in a row group
_METADATA_KEY = "smner"
_ENTITY = pyarrow.struct(
    {
        "entity_group": pyarrow.string(),
        "word": pyarrow.string(),
        "start": pyarrow.int32(),
        "end": pyarrow.int32(),
        "score": pyarrow.float64(),
    }
)
_ENTITY_KEYS = [field.name for field in _ENTITY]


class ParquetFiles:
    """See :class:`model.bulk.formats.Format`."""

    def read(self, file: IO[bytes], name: str, row_groups: Sequence[int] | None, first_row: int) -> Iterator[Row]:
        return read_rows(file, name, row_groups=row_groups, first_row=first_row)

    def prepare(self, recognizer: Recognizer, post: Row, open_photo: OpenPhoto) -> PreparedLine:
        found = attempt(lambda: read_post(recognizer, post.fields(), open_photo))
        return PreparedLine(post.number, "", post.id, found)

    @contextmanager
    def writer(self, path: Path, name: str, checkpoint: str) -> Iterator["_Writer"]:
        del name
        with path.open("wb") as file:
            answers = _Writer(file)
            yield answers
            answers.finish(checkpoint)

    def count(self, file: IO[bytes], name: str) -> Counts:
        metadata = parquet.read_metadata(file).metadata or {}
        try:
            return Counts(**json.loads(metadata[_METADATA_KEY.encode()])["counts"])
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidPostFile(f"{name} holds something other than answers") from error


class _Writer:
    """Row groups of answers; at the end, the metadata say what is in the file and which checkpoint wrote it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: parquet.ParquetWriter | None = None
        self._waiting: list[pyarrow.RecordBatch] = []
        self._counts = Counts()

    def append(self, lines: Sequence[PreparedLine], answers: Sequence[Sequence[Entity]]) -> None:
        self._waiting.append(_batch(lines, answers))
        self._counts += Counts.of(lines, answers)
        if sum(batch.num_rows for batch in self._waiting) >= _GROUP_ROWS:
            self._flush()

    def finish(self, checkpoint: str) -> None:
        if self._writer is None and not self._waiting:
            self._waiting.append(_batch([], []))  # a table of no posts has columns, too
        if self._waiting:
            self._flush()
        assert self._writer is not None
        found = {"checkpoint": checkpoint, "counts": self._counts.to_dict()}
        self._writer.add_key_value_metadata({_METADATA_KEY: json.dumps(found)})
        self._writer.close()

    def _flush(self) -> None:
        table = pyarrow.Table.from_batches(self._waiting)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._waiting = []


def _batch(lines: Sequence[PreparedLine], answers: Sequence[Sequence[Entity]]) -> pyarrow.RecordBatch:
    posts = [line.post if isinstance(line.post, Post) else None for line in lines]
    entities = [
        None if post is None else [_entity(entity) for entity in found]
        for post, found in zip(posts, answers, strict=True)
    ]
    columns = {
        "id": _ids(lines),
        "row": pyarrow.array([line.number for line in lines], pyarrow.int64()),
        "text": pyarrow.array([post and post.source for post in posts], pyarrow.string()),
        "entities": pyarrow.array(entities, pyarrow.list_(_ENTITY)),
        "image_used": pyarrow.array([post and post.has_image for post in posts], pyarrow.bool_()),
        "error": pyarrow.array([_error(line) for line in lines], pyarrow.string()),
    }
    return pyarrow.RecordBatch.from_pydict(columns)


def _ids(lines: Sequence[PreparedLine]) -> pyarrow.Array:
    """The ids with the type that they have in the posts' table."""
    if lines and isinstance(lines[0].id, pyarrow.Scalar):
        return pyarrow.array([line.id for line in lines], lines[0].id.type)
    return pyarrow.nulls(len(lines), pyarrow.string())


def _error(line: PreparedLine) -> str | None:
    """What is wrong with a post; the names of files in it need not be UTF-8."""
    return line.post.encode(errors="backslashreplace").decode() if isinstance(line.post, str) else None


def _entity(entity: Entity) -> dict[str, Any]:
    values = asdict(entity)
    return {key: values[key] for key in _ENTITY_KEYS}
