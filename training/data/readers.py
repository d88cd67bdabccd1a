"""Reading data files: CoNLL, with or without IMGID lines, and JSON lines."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model.preprocessing.words import split_words
from training.data.errors import InvalidLine
from training.data.images import find_image
from training.data.json_lines import read_json_line
from training.data.posts import LabeledPost, UnusableImage, entities_of_tags, is_tag


def read_posts(path: Path, images: Path | None = None) -> list[LabeledPost]:
    """Read a ``.txt`` (CoNLL) or ``.jsonl`` file; images are looked up in the folder ``images``.

    Raises:
        DatasetError: naming the file, the line and what was expected there.
    """
    if path.suffix != ".jsonl":
        return list(_conll(path, images))
    return [read_json_line(path, number, line, images) for number, line in _lines(path) if line.strip()]


def read_texts(path: Path) -> list[LabeledPost]:
    """Read posts' texts alone, from a text file with one in each line or from a data file, whose tags are dropped.

    Raises:
        InvalidLine: a line is not UTF-8, or malformed in a data file.
    """
    first = next((line for _, line in _lines(path) if line.strip()), "")
    if path.suffix == ".jsonl" or "\t" in first or first.startswith("IMGID:"):
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


def _conll(path: Path, images: Path | None) -> Iterator[LabeledPost]:
    """Each tweet is an ``IMGID:id`` line and ``token<TAB>tag`` lines; only the tab separates token and tag.

    Without IMGID lines an empty line ends a post, whose id is the number of its first line.
    """
    name = ""
    rows: list[tuple[int, str, str]] = []
    for number, line in _lines(path):
        is_head = line.startswith("IMGID:") and "\t" not in line.rstrip()  # else it is a token that looks like one
        if is_head or not line:
            if rows:
                yield _conll_post(path, images, name, rows)
                name, rows = "", []
            name = line.removeprefix("IMGID:").strip() or name
            continue
        token, _, tag = line.partition("\t")
        if not token or not is_tag(tag):
            raise InvalidLine(path, number, f"expected token<TAB>O, B-TYPE or I-TYPE, found {line[:80]!r}", line)
        rows.append((number, token, tag))
    if rows:
        yield _conll_post(path, images, name, rows)


def _conll_post(path: Path, images: Path | None, name: str, rows: list[tuple[int, str, str]]) -> LabeledPost:
    (first, *_), words, tags = zip(*rows, strict=True)
    image = find_image(images, name) if name else None
    return LabeledPost(
        id=name or f"line {first}",
        words=words,
        entities=entities_of_tags(tags),
        image=image,
        unusable_image=UnusableImage(name, "missing") if name and images is not None and image is None else None,
        image_id=name or None,
        place=(path, first),
    )
