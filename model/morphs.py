"""The morph of a word: its shape in its original casing (section 3.4, "morph embedding").

The processor classifies words and the network embeds the classes; this file is all they share.
"""

from enum import IntEnum
from typing import Self


class Morph(IntEnum):
    """The class of a word's shape; ``PADDING`` fills the positions after a post's last word."""

    PADDING = 0
    UPPER = 1
    LOWER = 2
    TITLE = 3
    DIGIT = 4
    OTHER = 5

    @classmethod
    def of(cls, word: str) -> Self:
        """Classify ``word`` by its casing. A single capital letter is upper, not title."""
        if word.isdigit():
            return cls.DIGIT
        if word.isupper():
            return cls.UPPER
        if word.islower():
            return cls.LOWER
        if word.istitle():
            return cls.TITLE
        return cls.OTHER
