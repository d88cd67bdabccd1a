"""A color for each entity type, the same on a terminal, in a notebook and in pictures.

All are light enough for black letters. The type is always written beside its color.
"""

from typing import NamedTuple
from zlib import crc32


class TypeColor(NamedTuple):
    """A color of the terminal's palette by its name in rich, and a similar one in hexadecimal."""

    terminal: str
    hex: str


_BENCHMARK_TYPES = {
    "PER": TypeColor("cyan", "#8fd3f4"),
    "LOC": TypeColor("green", "#9be29b"),
    "ORG": TypeColor("magenta", "#f0b3e6"),
    "MISC": TypeColor("yellow", "#ffd97a"),
}
_OTHERS = (
    TypeColor("bright_blue", "#b4c4ff"),
    TypeColor("bright_red", "#ffb3a7"),
    TypeColor("bright_cyan", "#a9ece2"),
    TypeColor("bright_yellow", "#f3ef9a"),
    TypeColor("white", "#d5d5d5"),
)


def type_color(entity_type: str) -> TypeColor:
    """The color of a type; one that the benchmarks do not have gets the same in every run."""
    return _BENCHMARK_TYPES.get(entity_type) or _OTHERS[crc32(entity_type.encode(errors="replace")) % len(_OTHERS)]
