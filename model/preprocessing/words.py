"""Raw text to words with offsets, as the Twitter-2017 files split it.

``#`` and ``@`` are separate from the name, punctuation is separate, and a number is separate from the letters after it
(``2 nd``) but decimal numbers stay whole. URLs, emoji sequences and simple emoticons are one word each. HTML entities
are not decoded (``& amp ;``), so every word is a slice of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import regex

# Alternatives are tried in this order at each position. Every branch is linear in the length of the text.
_WORD = regex.compile(
    r"""
      (?:https?://|www\.)[^\s<>"“”]*[^\s<>"“”.,;:!?)\]}'’…]…?          # URL, without trailing punctuation
    | \p{RI}\p{RI}                                                     # flag
    | [0-9\#*]\uFE0F?\u20E3                                            # keycap
    | (?![0-9\#*])\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*   # emoji with skin tone or tags,
      (?:\u200D\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*)*    # joined to more of them by ZWJ
    | (?<![\p{L}\p{N}])[:;=]-?[)(DP](?![\p{L}\p{M}\p{N}])                   # emoticon
    | (?:\p{N}(?!\uFE0F?\u20E3))++(?:[.,](?:\p{N}(?!\uFE0F?\u20E3))++)*+\p{M}*   # number, ends before a keycap
    | \p{Han}\p{M}*                                                    # a single ideograph
    | [\p{L}_](?:[\u200C\u200D]?(?:[[\p{L}\p{M}_]--\p{Han}]|\p{N}(?!\uFE0F?\u20E3)))*+   # letters, then digits too
    | \S\p{M}*                                                         # anything else, with its combining marks
    """,
    regex.VERBOSE | regex.VERSION1,
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its place: ``source[start:end] == text``, in Unicode code points."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Split raw text into ordered, non-overlapping words that cover everything but white space."""
    return [Word(match[0], match.start(), match.end()) for match in _WORD.finditer(text)]


def join_words(words: Sequence[str]) -> list[Word]:
    """Place already split words in ``" ".join(words)``."""
    placed = []
    start = 0
    for word in words:
        placed.append(Word(word, start, start + len(word)))
        start += len(word) + 1
    return placed
