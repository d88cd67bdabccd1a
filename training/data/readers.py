"""Readers of data files: CoNLL, with IMGID lines or without, and JSON lines."""

import errno
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.preprocessing.words import Word, join_words, split_words
from training.data.posts import (
    IMAGE_SUFFIXES,
    DatasetError,
    LabelledPost,
    TypedWords,
    UnusableImage,
    entities_of_tags,
    is_encodable,
    is_tag,
    is_type,
)


def read_posts(path: Path, images: Path | None = None) -> list[LabelledPost]:
    """Read a ``.txt`` (CoNLL) or ``.jsonl`` file; photos are looked for in ``images``.

    Raises:
        DatasetError: naming file, line and what was expected there.
    """
    reader = _jsonl if path.suffix == ".jsonl" else _conll
    return list(reader(path, images))


def find_image(images: Path | None, name: str) -> Path | None:
    """``name`` with a photo suffix, in small letters or capitals, in the folder ``images``, if there is such a file."""
    if images is None:
        return None
    suffixes = (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))
    return next((path for suffix in suffixes if _is_file(path := images / f"{name}{suffix}")), None)


def _is_file(path: Path) -> bool:
    """Whether it is there; a name that is too long for any file is not."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; they end at line feeds alone, since a token may be a line separator of Unicode.

    A byte order mark is no part of the first.
    """
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DatasetError(path, number, f"expected UTF-8 ({error.reason})") from error


def _conll(path: Path, images: Path | None) -> Iterator[LabelledPost]:
    """Each tweet is an ``IMGID:id`` line and ``token<TAB>tag`` lines; tokens are split on the tab alone.

    Without IMGID lines an empty line ends a post, which is called by the number of its first line.
    """
    name, first = "", 0
    words: list[str] = []
    tags: list[str] = []

    def post() -> LabelledPost:
        image = find_image(images, name) if name else None
        lost = UnusableImage(name, "missing") if name and images is not None and image is None else None
        return LabelledPost(
            id=name or f"line {first}",
            words=tuple(words),
            entities=entities_of_tags(tags),
            image=image,
            unusable_image=lost,
            image_id=name or None,
            place=(path, first),
        )

    for number, line in _lines(path):
        is_head = line.startswith("IMGID:") and "\t" not in line.rstrip()  # else it is a token that looks like one
        if is_head or not line:
            if words:
                yield post()
                name, words, tags = "", [], []
            name = line.removeprefix("IMGID:").strip() or name
            continue
        token, tab, tag = line.partition("\t")
        if not tab or not token or not is_tag(tag):
            raise DatasetError(path, number, f"expected token<TAB>O, B-TYPE or I-TYPE, found {line[:80]!r}")
        first = first if words else number
        words.append(token)
        tags.append(tag)
    if words:
        yield post()


def _jsonl(path: Path, images: Path | None) -> Iterator[LabelledPost]:
    """Each line is an object with ``tokens`` and perhaps ``tags``, or with ``text`` and perhaps ``entities``.

    Entities are objects with ``start`` and ``end`` in code points of the text and ``type`` or ``entity_group``, as in
    the answers of the service. ``id`` and ``image`` are optional; ``image`` is a path relative to ``images``, or to
    the file's own folder.
    """
    for number, line in _lines(path):
        if line.strip():
            yield _jsonl_post(path, number, line, images)


def _jsonl_post(path: Path, number: int, line: str, images: Path | None) -> LabelledPost:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, number, f"expected a JSON object ({error})") from error
    if not isinstance(record, dict):
        raise DatasetError(path, number, f"expected a JSON object, found {line[:80]!r}")
    for key in ("id", "image"):
        if not is_encodable(str(record.get(key))):
            raise DatasetError(path, number, f'expected "{key}" without half a surrogate pair, found {record[key]!r}')
    words = _words(path, number, record)
    image, lost = _named_image(path, number, record, images)
    return LabelledPost(
        id=f"line {number}" if record.get("id") is None else str(record["id"]),
        words=tuple(word.text for word in words),
        entities=_entities(path, number, record, words),
        image=image,
        unusable_image=lost,
        image_id=Path(record["image"]).stem if record.get("image") else None,
        place=(path, number),
    )


def _words(path: Path, number: int, record: dict[str, Any]) -> list[Word]:
    tokens, text = record.get("tokens"), record.get("text")
    if tokens is not None and _are_texts(tokens) and tokens and all(tokens):
        return join_words(tokens)
    words = split_words(text) if tokens is None and isinstance(text, str) else []
    if not words:
        raise DatasetError(path, number, 'expected "tokens", a list of words, or "text" that is not blank')
    return words


def _entities(path: Path, number: int, record: dict[str, Any], words: list[Word]) -> tuple[TypedWords, ...] | None:
    tags, spans = record.get("tags"), record.get("entities")
    if tags is not None and not (_are_texts(tags) and len(tags) == len(words) and all(map(is_tag, tags))):
        raise DatasetError(path, number, f'expected {len(words)} "tags", one a token, each O, B-TYPE or I-TYPE')
    if spans is None:
        return None if tags is None else entities_of_tags(tags)
    if tags is not None or record.get("tokens") is not None:
        raise DatasetError(path, number, 'expected "entities" beside "text" alone, without "tokens" and "tags"')
    if not isinstance(spans, list):
        raise DatasetError(path, number, 'expected "entities" to be a list')
    found = sorted(_entity(path, number, span, record["text"], words) for span in spans)
    for before, after in pairwise(found):
        if after.start <= before.end:
            word = words[after.start].text
            raise DatasetError(path, number, f"expected entities that do not overlap, found two with the word {word!r}")
    return tuple(found)


def _entity(path: Path, number: int, span: object, text: str, words: list[Word]) -> TypedWords:
    """The words between two offsets; white space at the edges is nobody's."""
    fields = span if isinstance(span, dict) else {}
    start, end, kind = fields.get("start"), fields.get("end"), fields.get("type", fields.get("entity_group"))
    if not (type(start) is int and type(end) is int and isinstance(kind, str) and is_type(kind)):
        raise DatasetError(path, number, f'expected an entity with "start", "end" and "type", found {span!r}'[:300])
    if not 0 <= start < end <= len(text):
        raise DatasetError(path, number, f"expected 0 ≤ start < end ≤ {len(text)} code points, found {start} and {end}")
    word = fields.get("word")
    if isinstance(word, str) and _bare(word) != _bare(text[start:end]):
        raise DatasetError(
            path,
            number,
            f"expected {word!r} at {start} to {end}, found {text[start:end]!r}; offsets count Unicode code points",
        )
    inside = [i for i, word in enumerate(words) if word.start < end and word.end > start]
    for word in (words[i] for i in inside):
        if word.start < start or word.end > end:
            raise DatasetError(
                path,
                number,
                f"expected an entity of whole words, but {text[start:end]!r} ({start} to {end}) cuts {word.text!r} "
                f"({word.start} to {word.end})",
            )
    if not inside:
        raise DatasetError(path, number, f"expected an entity to have a word, but {start} to {end} is white space")
    return TypedWords(inside[0], inside[-1], kind)


def _bare(text: str) -> str:
    """Without case and white space, which a tagger's own ``word`` may lack."""
    return "".join(text.split()).casefold()


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _named_image(
    path: Path, number: int, record: dict[str, Any], images: Path | None
) -> tuple[Path | None, UnusableImage | None]:
    """The post's photo, or else the one that it names and that is not there; an ``id`` alone need not name one."""
    given, name = record.get("image"), record.get("id")
    if not given:
        return None if name is None else find_image(images, str(name)), None
    if not isinstance(given, str):
        raise DatasetError(path, number, f'expected "image" to be a path, found {given!r}')
    named = Path(given)
    places = [path.parent / named] if images is None else [images / named, images / named.name]
    image = next((place for place in places if _is_file(place)), None)
    return image, UnusableImage(given, "missing") if image is None else None
