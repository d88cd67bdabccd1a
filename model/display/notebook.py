"""An answer in a notebook: HTML with its styles in it, since notebooks remove style sheets."""

from collections.abc import Iterable
from html import escape

from model.display.marked_text import MarkedSpan, cut, harmless, label
from model.display.type_colors import type_color

_POST = '<div dir="auto" style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.8">{}</div>'
_ENTITY = (
    '<mark style="background:{color};color:#000;border-radius:.3em;padding:.1em .3em">'
    '{word} <b style="font-size:.75em">{label}</b></mark>'
)


def marked_html(text: str, entities: Iterable[MarkedSpan]) -> str:
    """The text with its entities marked by color, type and score."""
    return _POST.format("".join(_html(piece.text, piece.entity) for piece in cut(text, entities)))


def entity_html(word: str, entity: MarkedSpan) -> str:
    """One entity, marked."""
    return _html(harmless(word), entity)


def _html(shown: str, entity: MarkedSpan | None) -> str:
    if entity is None:
        return escape(shown)
    return _ENTITY.format(color=type_color(entity.entity_group).hex, word=escape(shown), label=escape(label(entity)))
