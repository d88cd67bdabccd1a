"""Answers parts one by one with one recognizer: in this process, or in each of Ray's actors."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from model.bulk.counts import Counts
from model.bulk.formats import AnswerWriter, format_of
from model.bulk.photos import Photos
from model.bulk.plan import Part
from model.bulk.stores import Folder
from model.device import Precision
from model.entities import Entity
from model.errors import InvalidPostFile, SMNERError
from model.post_files.post_line import PreparedLine
from model.post_files.read_ahead import read_ahead
from model.posts import Post
from model.recognizer import Recognizer

_WINDOW_BATCHES = 8  # sorted by length together


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all parts have in common; addresses are as in :class:`Folder`.

    Attributes:
        images: where photos' names start from; None is the folder that a post's file is in.
    """

    inputs: str
    outputs: str
    images: str | None = None
    checkpoint: str | None = None
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True, slots=True)
class Progress:
    """Some more posts of a part have been answered; they count when it is :class:`Finished`."""

    part: Part
    counts: Counts


@dataclass(frozen=True, slots=True)
class Finished:
    """A part's answers are in place, or ``error`` says why there are none."""

    part: Part
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """What answered a part has died; another one begins it again."""

    part: Part


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has happened for a second."""


Event = Progress | Finished | Restarted | Idle


class Worker:
    """Answers parts. Posts are batched by their place in the part alone, so the answers are always the same.

    Args:
        threads: how many prepare posts beside the model.
    """

    def __init__(self, recognizer: Recognizer, job: Job, *, threads: int) -> None:
        self._recognizer = recognizer
        self._inputs, self._outputs = Folder(job.inputs), Folder(job.outputs)
        self._images = job.images
        self._threads = threads
        self._window = _WINDOW_BATCHES * recognizer.batch_size

    def work(self, part: Part) -> Iterator[Event]:
        """Answer a part; a file that cannot be read costs only itself.

        Raises:
            StoreUnavailable: photos cannot be read, or answers not written; other parts would meet the same.
        """
        try:
            for counts in self._answer(part):
                yield Progress(part, counts)
            yield Finished(part)
        except InvalidPostFile as error:
            yield Finished(part, str(error))

    def _answer(self, part: Part) -> Iterator[Counts]:
        format_ = format_of(part.source)
        prepare = partial(format_.prepare, self._recognizer, open_photo=Photos(self._image_folder(part)))
        posts = read_ahead(self._read(part), prepare, ahead=2 * self._window, workers=self._threads)
        with (
            self._outputs.put(part.output) as path,
            closing(posts),
            format_.writer(path, part.output, self._recognizer.revision) as writer,
        ):
            lines = chain.from_iterable(posts)
            while window := list(islice(lines, self._window)):
                yield self._answer_window(window, writer)

    def _answer_window(self, lines: Sequence[PreparedLine], writer: AnswerWriter) -> Counts:
        found = iter(self._recognizer.run_batches([line.post for line in lines if isinstance(line.post, Post)]))
        answers: list[list[Entity]] = [next(found) if isinstance(line.post, Post) else [] for line in lines]
        writer.append(lines, answers)
        return Counts.of(lines, answers)

    def _read(self, part: Part) -> Iterator[Any]:
        """The posts of a part.

        Raises:
            InvalidPostFile: they cannot be read, or changed meanwhile.
        """
        name = self._inputs.name(part.source)
        try:
            version = self._inputs.version(part.source)
            with self._inputs.open(part.source) as file:
                yield from format_of(part.source).read(file, name, part.row_groups, part.first_row)
            changed = self._inputs.version(part.source) != version
        except SMNERError:
            raise
        except Exception as error:  # of pyarrow and of every store
            raise InvalidPostFile(f"{name} cannot be read: {error}") from error
        if changed:
            raise InvalidPostFile(f"{name} changed while it was read")

    def _image_folder(self, part: Part) -> Folder:
        return Folder(self._images or self._inputs.name(part.source).rpartition("/")[0])
