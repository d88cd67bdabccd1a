"""Posts as training and evaluation see them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from model.configuration import ENTITY_TYPES

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class DatasetError(ValueError):
    """A data file that is not as it should be; the message has the file, the line and what was expected."""

    def __init__(self, path: Path, line: int, expected: str) -> None:
        super().__init__(f"{path}:{line}: {expected}")


class TypedWords(NamedTuple):
    """An entity: words ``start`` to ``end``, both included, and its type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class LabelledPost:
    """A post split into words; ``entities`` is None where nobody has tagged it, ``photo`` None where there is none."""

    id: str
    words: tuple[str, ...]
    entities: tuple[TypedWords, ...] | None
    photo: Path | None = None

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


def is_tag(tag: str) -> bool:
    """Whether ``tag`` is O, B-TYPE or I-TYPE."""
    prefix, _, kind = tag.partition("-")
    return tag == "O" or (prefix in ("B", "I") and bool(kind))


def entity_types(posts: Iterable[LabelledPost]) -> list[str]:
    """The types that occur, the benchmarks' own first and in their order, others by name."""
    found = {entity.type for post in posts for entity in post.entities or ()}
    return [kind for kind in ENTITY_TYPES if kind in found] + sorted(found.difference(ENTITY_TYPES))
