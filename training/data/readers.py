"""Reading data files: CoNLL, with or without IMGID lines, and JSON lines."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model.preprocessing.words import split_words
from training.data.conll import read_conll
from training.data.errors import InvalidLine
from training.data.json_lines import read_json_line
from training.data.posts import LabeledPost


def read_posts(path: Path, images: Path | None = None) -> list[LabeledPost]:
    """Read a ``.txt`` (CoNLL) or ``.jsonl`` file; images are looked up in the folder ``images``.

    Raises:
        DatasetError: naming the file, the line and what was expected there.
    """
    if path.suffix != ".jsonl":
        return list(read_conll(path, _lines(path), images))
    return [read_json_line(path, number, line, images) for number, line in _lines(path) if line.strip()]


def read_texts(path: Path) -> list[LabeledPost]:
    """Read posts' texts alone, from a text file with one in each line or from a data file, whose tags are dropped.

    Raises:
        InvalidLine: a line is not UTF-8, or malformed in a data file.
    """
    first = next((line for _, line in _lines(path) if line.strip()), "")
    if path.suffix == ".jsonl" or "\t" in first or first.startswith(("IMGID:", "-DOCSTART-")):
        return [replace(post, entities=None, image=None, unusable_image=None) for post in read_posts(path)]
    split = ((number, split_words(line)) for number, line in _lines(path))
    return [
        LabeledPost(f"line {number}", tuple(word.text for word in words), None, place=(path, number))
        for number, words in split
        if words
    ]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, split at line feeds alone, since a token may be one of Unicode's line separators.

    A byte order mark is removed.
    """
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InvalidLine(path, number, f"expected UTF-8 ({error.reason})", raw) from error
