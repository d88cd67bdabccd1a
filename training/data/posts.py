"""Posts as training and evaluation see them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from model.modeling.configuration import ENTITY_TYPES
from model.preprocessing.words import split_words

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


class DatasetError(ValueError):
    """A data file that is not as it should be; the message has the file, the line and what was expected."""

    def __init__(self, path: Path, line: int, expected: str) -> None:
        super().__init__(f"{path}:{line}: {expected}")


class TypedWords(NamedTuple):
    """An entity: words ``start`` to ``end``, both included, and its type."""

    start: int
    end: int
    type: str


class UnusableImage(NamedTuple):
    """A photo that training goes without, and why: ``missing``, ``unreadable`` or ``without features``."""

    image: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledPost:
    """A post split into words; ``entities`` is None where nobody has tagged it, ``image`` None where there is none.

    ``unusable_image`` is the image that the post names and that cannot be used. ``image_id`` is that image's id in an
    image-feature file; without one, the post's own id is looked up. ``place`` is the file and line it was read from.
    """

    id: str
    words: tuple[str, ...]
    entities: tuple[TypedWords, ...] | None
    image: Path | None = None
    unusable_image: UnusableImage | None = None
    image_id: str | None = None
    place: tuple[Path, int] | None = None

    def mention(self, entity: TypedWords) -> str:
        """The entity's words, lower-cased: what "seen in training" is judged by."""
        return " ".join(self.words[entity.start : entity.end + 1]).lower()


def entities_of_tags(tags: Iterable[str]) -> tuple[TypedWords, ...]:
    """BIO tags to entities as conlleval reads them: an I- without its B-, or of another type, starts an entity.

    Twitter-2015 writes OTHER for MISC.
    """
    entities: list[TypedWords] = []
    previous = "O"
    for position, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        kind = "MISC" if kind == "OTHER" else kind
        if prefix == "I" and previous == kind:
            entities[-1] = entities[-1]._replace(end=position)
        elif prefix != "O":
            entities.append(TypedWords(position, position, kind))
        previous = kind or "O"
    return tuple(entities)


def split_retweet(post: LabelledPost) -> LabelledPost:
    """Split the handles of ``RT @name`` as raw text is split: ``RT``, ``@``, ``name``.

    Twitter-2015 has each handle as one word. An entity that starts with one starts with the name then, as in
    Twitter-2017.
    """
    words: list[str] = []
    places: list[tuple[int, int]] = []  # of each old word: where an entity starts and ends that starts or ends with it
    for previous, word in zip(("", *post.words), post.words, strict=False):
        parts = [word]
        if previous == "RT" and len(word) > 1 and word.startswith("@"):
            parts = [part.text for part in split_words(word)]
        places.append((len(words) + (len(parts) > 1), len(words) + len(parts) - 1))
        words += parts
    entities = post.entities and tuple(
        TypedWords(places[start][0], places[end][1], kind) for start, end, kind in post.entities
    )
    return replace(post, words=tuple(words), entities=entities)


def is_tag(tag: str) -> bool:
    """Whether ``tag`` is O, B-TYPE or I-TYPE."""
    prefix, _, kind = tag.partition("-")
    return tag == "O" or (prefix in ("B", "I") and is_type(kind))


def is_type(kind: str) -> bool:
    """Whether ``kind`` can be the name of an entity type.

    One with a trailing blank would be another type, and O is the name of none.
    """
    return kind not in ("", "O") and not any(map(str.isspace, kind)) and is_encodable(kind)


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be written: half of a surrogate pair, which JSON may have, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def entity_types(posts: Iterable[LabelledPost]) -> list[str]:
    """The types that occur, the benchmarks' own first and in their order, others by name."""
    found = {entity.type for post in posts for entity in post.entities or ()}
    return [kind for kind in ENTITY_TYPES if kind in found] + sorted(found.difference(ENTITY_TYPES))
