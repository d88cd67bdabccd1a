"""Raw text to words with offsets, in the manner of the Twitter-2017 files.

There ``#`` and ``@`` stand apart from the name, punctuation stands apart, a number is cut off from the letters behind
it (``2 nd``), decimal numbers stay whole. URLs, emoji sequences and simple emoticons are one word each. HTML entities
are left as they came (``& amp ;``), as in the files, so that every word is a slice of the text.
"""

from dataclasses import dataclass

import regex

# Alternatives are tried in this order at each position. Every branch is linear in the length of the text.
_WORD = regex.compile(
    r"""
      (?:https?://|www\.)[^\s<>"“”]*[^\s<>"“”.,;:!?)\]}'’…]…?          # URL, without the punctuation behind it
    | \p{RI}\p{RI}                                                     # flag
    | [0-9\#*]\uFE0F?\u20E3                                            # keycap
    | (?![0-9\#*])\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*   # emoji: skin tone, tags,
      (?:\u200D\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*)*    # joined to more of them by ZWJ
    | (?<![\p{L}\p{N}])[:;=]-?[)(DP](?![\p{L}\p{M}\p{N}])                   # emoticon
    | (?:\p{N}(?!\uFE0F?\u20E3))++(?:[.,](?:\p{N}(?!\uFE0F?\u20E3))++)*+\p{M}*   # number, not into a keycap
    | \p{Han}\p{M}*                                                    # an ideograph is a word of its own
    | [\p{L}_](?:[\u200C\u200D]?(?:[[\p{L}\p{M}_]--\p{Han}]|\p{N}(?!\uFE0F?\u20E3)))*+   # letters first
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
    """Split raw text into words; together they cover all of it but white space, in order and without overlap."""
    return [Word(match[0], match.start(), match.end()) for match in _WORD.finditer(text)]


def join_words(words: list[str]) -> list[Word]:
    """Words of a tokenised text, placed in ``" ".join(words)``."""
    placed = []
    start = 0
    for word in words:
        placed.append(Word(word, start, start + len(word)))
        start += len(word) + 1
    return placed
