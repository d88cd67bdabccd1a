"""Posts as training and evaluation see them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from model.modeling.configuration import ENTITY_TYPES
from model.preprocessing.words import split_words

Casing = Literal["lower", "upper"]


class TypedWords(NamedTuple):
    """An entity: its first and last word, both included, and its type."""

    start: int
    end: int
    type: str


class UnusableImage(NamedTuple):
    """An image that training goes without, and why: ``missing``, ``unreadable`` or ``without features``."""

    image: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabeledPost:
    """A post split into words; ``entities`` is None if the post is not annotated, ``image`` if it has none.

    ``unusable_image`` is an image that the post names but that cannot be used. ``image_id`` is the image's id in an
    image-feature file, by default the post's own. ``place`` is the file and line that the post was read from.
    ``line_starts`` are the words that begin a new line. ``teacher_logits`` are a teacher's logits, (words, widths,
    1 + types) float16 by first word and width − 1.
    """

    id: str
    words: tuple[str, ...]
    entities: tuple[TypedWords, ...] | None
    image: Path | None = None
    unusable_image: UnusableImage | None = None
    image_id: str | None = None
    place: tuple[Path, int] | None = None
    line_starts: tuple[int, ...] = ()
    teacher_logits: Tensor | None = field(default=None, compare=False, repr=False)

    def mention(self, entity: TypedWords) -> str:
        """The entity's words in lower case, by which mentions seen in training are recognized."""
        return " ".join(self.words[entity.start : entity.end + 1]).lower()


def split_retweet(post: LabeledPost) -> LabeledPost:
    """Split the handles of ``RT @name`` as raw text is split: ``RT``, ``@``, ``name``.

    In Twitter-2015 each handle is one word. An entity that starts with a handle then starts with the name, as in
    Twitter-2017.
    """
    words: list[str] = []
    moved: list[tuple[int, int]] = []  # for each old word, where an entity starts or ends that starts or ends with it
    for previous, word in zip(("", *post.words), post.words, strict=False):
        parts = [word]
        if previous == "RT" and len(word) > 1 and word.startswith("@"):
            parts = [part.text for part in split_words(word)]
        moved.append((len(words) + (len(parts) > 1), len(words) + len(parts) - 1))
        words += parts
    entities = post.entities and tuple(
        TypedWords(moved[start][0], moved[end][1], kind) for start, end, kind in post.entities
    )
    return replace(post, words=tuple(words), entities=entities)


def recased(post: LabeledPost, casing: Casing) -> LabeledPost:
    """Copy a post in small letters or in capitals; all else stays."""
    return replace(post, words=tuple(word.lower() if casing == "lower" else word.upper() for word in post.words))


def is_type(kind: str) -> bool:
    """Whether ``kind`` can name an entity type: O means none, and a trailing blank would make another type."""
    return kind not in ("", "O") and not any(map(str.isspace, kind)) and is_encodable(kind)


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8; half of a surrogate pair, which JSON may contain, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def entity_types(posts: Iterable[LabeledPost]) -> list[str]:
    """The types that occur: the benchmarks' own first, in their order, then others by name."""
    found = {entity.type for post in posts for entity in post.entities or ()}
    return [kind for kind in ENTITY_TYPES if kind in found] + sorted(found.difference(ENTITY_TYPES))
