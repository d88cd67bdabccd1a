"""The shape of a word in its original casing, the input of the morph embedding (reading.md, "morph embedding")."""

from enum import IntEnum


class Morph(IntEnum):
    """Class of a word's shape; ``PADDING`` marks positions behind a post's last word."""

    PADDING = 0
    UPPER = 1
    LOWER = 2
    TITLE = 3
    DIGIT = 4
    OTHER = 5


def morph(word: str) -> Morph:
    """Classify ``word`` by its casing. A single capital letter is upper, not title."""
    if word.isdigit():
        return Morph.DIGIT
    if word.isupper():
        return Morph.UPPER
    if word.islower():
        return Morph.LOWER
    if word.istitle():
        return Morph.TITLE
    return Morph.OTHER
