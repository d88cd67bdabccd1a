"""Readers of data files: CoNLL with IMGID lines, and JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.words import split_words
from training.posts import PHOTO_SUFFIXES, DatasetError, LabelledPost, entities_of_tags, is_tag


def read_posts(path: Path, images: Path | None = None) -> list[LabelledPost]:
    """Read a ``.txt`` (CoNLL) or ``.jsonl`` file; photos are looked for in ``images``.

    Raises:
        DatasetError: naming file, line and what was expected there.
    """
    reader = _jsonl if path.suffix == ".jsonl" else _conll
    return list(reader(path, images))


def find_photo(images: Path | None, name: str) -> Path | None:
    """``name`` with one of the photo suffixes in the folder ``images``, if there is such a file."""
    if images is None:
        return None
    return next((path for suffix in PHOTO_SUFFIXES if (path := images / f"{name}{suffix}").is_file()), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; they end at line feeds alone, since a token may be a line separator of Unicode."""
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                yield number, raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DatasetError(path, number, f"expected UTF-8 ({error.reason})") from error


def _conll(path: Path, images: Path | None) -> Iterator[LabelledPost]:
    """Each tweet is an ``IMGID:id`` line and ``token<TAB>tag`` lines; tokens are split on the tab alone."""
    name = ""
    words: list[str] = []
    tags: list[str] = []
    for number, line in _lines(path):
        if line.startswith("IMGID:") or not line:
            if words:
                yield LabelledPost(name, tuple(words), entities_of_tags(tags), find_photo(images, name))
            name, words, tags = line.removeprefix("IMGID:").strip() or name, [], []
            continue
        token, tab, tag = line.partition("\t")
        if not tab or not token or not is_tag(tag):
            raise DatasetError(path, number, f"expected token<TAB>O, B-TYPE or I-TYPE, found {line[:80]!r}")
        words.append(token)
        tags.append(tag)
    if words:
        yield LabelledPost(name, tuple(words), entities_of_tags(tags), find_photo(images, name))


def _jsonl(path: Path, images: Path | None) -> Iterator[LabelledPost]:
    """Each line is an object with ``tokens`` and perhaps ``tags``, or with ``text``; ``id`` and ``image`` are optional.

    ``image`` is a path relative to ``images``, or to the file's own folder.
    """
    for number, line in _lines(path):
        if line.strip():
            yield _jsonl_post(path, number, line, images)


def _jsonl_post(path: Path, number: int, line: str, images: Path | None) -> LabelledPost:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DatasetError(path, number, f"expected a JSON object ({error})") from error
    if not isinstance(record, dict):
        raise DatasetError(path, number, f"expected a JSON object, found {line[:80]!r}")
    words = _words(path, number, record)
    tags = record.get("tags")
    if tags is not None and not (_are_texts(tags) and len(tags) == len(words) and all(map(is_tag, tags))):
        raise DatasetError(path, number, f'expected {len(words)} "tags", one a token, each O, B-TYPE or I-TYPE')
    return LabelledPost(
        id=str(record.get("id", f"line {number}")),
        words=tuple(words),
        entities=None if tags is None else entities_of_tags(tags),
        photo=_named_photo(path, number, record, images),
    )


def _words(path: Path, number: int, record: dict[str, Any]) -> list[str]:
    tokens, text = record.get("tokens"), record.get("text")
    if tokens is not None and _are_texts(tokens) and tokens and all(tokens):
        return list(tokens)
    words = [word.text for word in split_words(text)] if tokens is None and isinstance(text, str) else []
    if not words:
        raise DatasetError(path, number, 'expected "tokens", a list of words, or "text" that is not blank')
    return words


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _named_photo(path: Path, number: int, record: dict[str, Any], images: Path | None) -> Path | None:
    image = record.get("image")
    if not image:
        return find_photo(images, str(record.get("id", "")))
    if not isinstance(image, str):
        raise DatasetError(path, number, f'expected "image" to be a path, found {image!r}')
    named = Path(image)
    places = [path.parent / named] if images is None else [images / named, images / named.name]
    return next((place for place in places if place.is_file()), None)
