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


def _conll(path: Path, images: Path | None) -> Iterator[LabelledPost]:
    """Each tweet is an ``IMGID:id`` line and ``token<TAB>tag`` lines; tokens are split on the tab alone."""
    name = ""
    words: list[str] = []
    tags: list[str] = []
    with path.open(encoding="utf-8", newline="\n") as lines:  # a token may be a line separator of Unicode
        for number, raw in enumerate(lines, 1):
            line = raw.rstrip("\r\n")
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
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _jsonl_post(path, number, line, images)


def _jsonl_post(path: Path, number: int, line: str, images: Path | None) -> LabelledPost:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DatasetError(path, number, f"expected a JSON object ({error})") from error
    if not isinstance(record, dict) or not (isinstance(record.get("tokens"), list) or record.get("text")):
        raise DatasetError(path, number, 'expected an object with "tokens" (a list) or "text"')
    words = record.get("tokens") or [word.text for word in split_words(record["text"])]
    tags = record.get("tags")
    if tags is not None and (len(tags) != len(words) or not all(map(is_tag, tags))):
        raise DatasetError(path, number, f'expected {len(words)} "tags", one a token, each O, B-TYPE or I-TYPE')
    return LabelledPost(
        id=str(record.get("id", number)),
        words=tuple(words),
        entities=None if tags is None else entities_of_tags(tags),
        photo=_named_photo(path, record, images),
    )


def _named_photo(path: Path, record: dict[str, Any], images: Path | None) -> Path | None:
    if not record.get("image"):
        return find_photo(images, str(record.get("id", "")))
    named = Path(record["image"])
    places = [path.parent / named] if images is None else [images / named, images / named.name]
    return next((place for place in places if place.is_file()), None)
