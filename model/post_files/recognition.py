"""From a file of posts to a file of answers, resuming after an interruption."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from model.errors import InvalidPostFile
from model.post_files.answer_file import AnswerStream, is_same_file, open_answers
from model.post_files.answers import EarlierAnswer, answer_line
from model.post_files.input_lines import Line, check_source, count_posts, image_folder, read_lines, source_name
from model.post_files.post_fields import photo_file
from model.post_files.post_line import PreparedLine, prepare_line
from model.post_files.read_ahead import default_workers, read_ahead
from model.posts import Post
from model.recognizer import Recognizer

_BATCHES_AHEAD = 8  # sorted by length, together


@dataclass(slots=True)
class Tally:
    """How many posts have an answer and how many an error; ``earlier`` of them have been in the file before."""

    answered: int = 0
    failed: int = 0
    earlier: int = 0

    def add(self, *, failed: bool) -> None:
        """Count one post."""
        self.answered += not failed
        self.failed += failed

    def __str__(self) -> str:
        earlier = f"; {self.earlier} of them by an earlier run" if self.earlier else ""
        posts = "1 post" if self.answered == 1 else f"{self.answered} posts"
        return f"{posts} answered, {self.failed} failed{earlier}"


def recognize_file(recognizer: Recognizer, source: str | Path, output: str | Path) -> Tally:
    """Recognize every post of a JSON-lines file and append one answer per line to ``output``.

    A line of ``source`` is an object with ``text`` (or ``tokens``, joined by spaces) and optional ``id`` and ``image``,
    a path relative to the file. Either file can be a pipe, ``-`` or gzipped. A post that cannot be read gets an
    ``error`` instead of ``entities``. Posts already answered in ``output`` are skipped, so an interrupted run resumes.

    Raises:
        InvalidPostFile: ``source`` cannot be read on; the answers so far are in ``output``. Or ``output`` has answers
            to other posts.
        FileExistsError: ``output`` holds something other than answers, or is ``source``.
        BlockingIOError: another run is writing to ``output``.
    """
    source, output = str(source), str(output)
    check_source(source)
    if is_same_file(source, output):
        raise FileExistsError(f"{source_name(source)} is the output, too; choose another name for the answers")
    lines, tally = read_lines(source), Tally()
    with open_answers(output) as answers, _progress_bar(source) as progress:
        for _ in _skip_answered(lines, answers, tally, names=(source_name(source), output)):
            progress.update()
        prepare = partial(prepare_line, recognizer, open_photo=partial(photo_file, image_folder(source)))
        ahead = _BATCHES_AHEAD * recognizer.batch_size
        with closing(read_ahead(lines, prepare, ahead=ahead, workers=default_workers())) as prepared:
            for waiting in prepared:
                answers.append(b"".join(_answer(recognizer, waiting)))
                for line in waiting:
                    tally.add(failed=isinstance(line.post, str))
                progress.update(len(waiting))
    return tally


def _skip_answered(
    lines: Iterator[Line], answers: AnswerStream, tally: Tally, *, names: tuple[str, str]
) -> Iterator[None]:
    """Read the posts that have an answer already, and make sure that it is theirs."""
    for found in answers.earlier():
        _check_match(next(lines, None), found, *names)
        tally.add(failed=found.failed)
        tally.earlier += 1
        yield


def _check_match(line: Line | None, found: EarlierAnswer, source: str, output: str) -> None:
    if line is None:
        raise InvalidPostFile(
            f"{output} answers line {found.line}, but {source} ends before; restore it or choose another output"
        )
    if (line.number, line.digest) != (found.line, found.digest):
        raise InvalidPostFile(
            f"line {line.number} of {source} is not the post that {output} answers there; "
            "restore the posts or choose another output"
        )


def _answer(recognizer: Recognizer, lines: Sequence[PreparedLine]) -> Iterator[bytes]:
    found = iter(recognizer.run_batches([line.post for line in lines if isinstance(line.post, Post)]))
    return (answer_line(line, next(found) if isinstance(line.post, Post) else []) for line in lines)


def _progress_bar(source: str) -> "tqdm[NoReturn]":
    total = count_posts(source) if sys.stderr is not None and sys.stderr.isatty() else None
    return tqdm(total=total, unit="post", desc="recognizing", disable=None)  # disabled unless on a terminal
