"""A text as the network takes it: words, sub-tokens and which words one entity may have."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.preprocessing.words import Word


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text's words and sub-tokens, or those of a window of it.

    Attributes:
        words: all words, or those in the window.
        input_ids: sub-tokens, special ones included.
        word_starts, word_ends: each word's first and last sub-token.
        morphs: each word's :class:`model.morphs.Morph`.
        segments: numbers from 1, the same for words that one entity may have: words of a line without a link between
            them. A link has 0.
        first: the number of words before the window.
    """

    words: list[Word]
    input_ids: list[int]
    word_starts: list[int]
    word_ends: list[int]
    morphs: list[int]
    segments: list[int]
    first: int = 0

    @property
    def may_have_entities(self) -> bool:
        """Whether there is a word that is not a link."""
        return any(self.segments)


def number_segments(words: Sequence[Word]) -> list[int]:
    """The segment of each word: entities cross neither line breaks nor links, which are 0."""
    segments: list[int] = []
    number = 1
    for before, word in zip((None, *words), words, strict=False):
        number += before is not None and (before.is_link or before.line != word.line)
        segments.append(0 if word.is_link else number)
    return segments
