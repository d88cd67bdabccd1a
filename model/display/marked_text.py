"""A text cut where its entities begin and end, with nothing in it that could command a terminal or a browser."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

# Control characters but tab and line feed, other line breaks, changes of the writing direction that may stay open
# (https://trojansource.codes), and halves of surrogate pairs
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL_IN_JSON = re.compile(_HARMFUL.pattern.replace("\x00-\x08\x0b-\x1f", ""))  # which JSON itself escapes
_CONTROL_PICTURES = 0x2400  # U+241B is a picture of ESC, U+001B
_DELETE, _PICTURE_OF_DELETE = "\x7f", "\u2421"


class MarkedSpan(Protocol):
    """What is marked: an :class:`model.entities.Entity`, or anything with these of its fields."""

    @property
    def entity_group(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def score(self) -> float: ...


class Piece(NamedTuple):
    """A part of the text, ready to be shown, and the entity that it is, if it is one."""

    text: str
    entity: MarkedSpan | None = None


def cut(text: str, entities: Iterable[MarkedSpan]) -> Iterator[Piece]:
    """Cut the text into its entities, which do not overlap, and what lies between them."""
    position = 0
    for entity in sorted(entities, key=lambda entity: entity.start):
        if entity.start > position:
            yield Piece(harmless(text[position : entity.start]))
        yield Piece(harmless(text[entity.start : entity.end]), entity)
        position = entity.end
    if position < len(text):
        yield Piece(harmless(text[position:]))


def label(entity: MarkedSpan) -> str:
    """The type and the score, as in ``PER 0.98``."""
    return f"{harmless(entity.entity_group)} {entity.score:.2f}"


def harmless(text: str) -> str:
    """Replace what would be obeyed instead of shown: ESC by its picture ␛, others by their number."""
    return _HARMFUL.sub(_shown, text.replace("\r\n", "\n"))


def escape_json(text: str) -> str:
    """Escape in a JSON text what would be obeyed instead of shown; it stands for the same values."""
    return _HARMFUL_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character < " ":
        return chr(_CONTROL_PICTURES + ord(character))
    return _PICTURE_OF_DELETE if character == _DELETE else f"\\u{ord(character):04x}"
