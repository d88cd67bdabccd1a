"""Which format a file of posts has, by its name; its answers have the same."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol

from model.bulk.addresses import is_parquet
from model.bulk.counts import Counts
from model.bulk.json_lines import JSONLines
from model.bulk.parquet_files import ParquetFiles
from model.entities import Entity
from model.post_files.post_fields import OpenPhoto
from model.post_files.post_line import PreparedLine
from model.recognizer import Recognizer


class AnswerWriter(Protocol):
    """Writes answers to a file, in the order of their posts."""

    def append(self, lines: Sequence[PreparedLine], answers: Sequence[Sequence[Entity]]) -> None:
        """Write the entities of each post, or its error."""
        ...


class Format(Protocol):
    """Reads posts one by one and writes their answers."""

    def read(self, file: IO[bytes], name: str, row_groups: Sequence[int] | None, first_row: int) -> Iterator[Any]:
        """The posts of an open file, as :meth:`prepare` takes them."""
        ...

    def prepare(self, recognizer: Recognizer, post: Any, open_photo: OpenPhoto) -> PreparedLine:
        """Make a post ready for the network, or find out why that cannot be; in a thread beside the model."""
        ...

    def writer(self, path: Path, name: str, checkpoint: str) -> AbstractContextManager[AnswerWriter]:
        """Write answers to ``path``, of which ``name`` tells whether it is compressed."""
        ...

    def count(self, file: IO[bytes], name: str) -> Counts:
        """Count the answers in a file."""
        ...


def format_of(name: str) -> Format:
    """How to read and write files of that name."""
    return ParquetFiles() if is_parquet(name) else JSONLines()
