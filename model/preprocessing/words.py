"""Raw text to words with offsets, as the Twitter-2017 files split it.

``#`` and ``@`` are separate from the name, punctuation is separate, and a number is separate from the letters after it
(``2 nd``) but decimal numbers stay whole. Links, emoji sequences and simple emoticons are one word each. Words are
found in the text as it is read (:mod:`model.preprocessing.visible_text`); each is a slice of the text as sent.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import regex

from model.preprocessing.links import GLUED, LINK, NAMED_LISTS, is_link, may_have_links
from model.preprocessing.scripts import cut_by_script, needs_cutting
from model.preprocessing.visible_text import EMOJI_SEQUENCE, read_visible, visible

# Alternatives are tried in this order at each position. Every branch is linear in the length of the text.
_WORD = r"""
      \p{RI}\p{RI}                                                     # flag
    | [0-9\#*]\uFE0F?\u20E3                                            # keycap
    | (?![0-9\#*])EMOJI_SEQUENCE
    | (?<![\p{L}\p{N}])[:;=]-?[)(DP](?![\p{L}\p{M}\p{N}])                   # emoticon
    | (?:\p{N}(?!\uFE0F?\u20E3))++(?:[.,](?:\p{N}(?!\uFE0F?\u20E3))++)*+\p{M}*   # number, ends before a keycap
    | (?P<letters>[\p{L}_](?:(?!GLUED)[\p{L}\p{M}_]|\p{N}(?!\uFE0F?\u20E3))*+)   # then digits too
    | \S\p{M}*                                                         # anything else, with its combining marks
""".replace("EMOJI_SEQUENCE", EMOJI_SEQUENCE)
_SIGNS = ("@", "#")
_FLAGS = regex.VERBOSE | regex.VERSION1
_WORDS = regex.compile(_WORD.replace("(?!GLUED)", ""), _FLAGS)
_WORDS_AND_LINKS = regex.compile(rf"(?P<link>{LINK}) | {_WORD}".replace("GLUED", GLUED), _FLAGS, **NAMED_LISTS)
_LINE_BREAK = regex.compile(r"\r\n|[\n\v\f\r\x85\u2028\u2029]")


class Word(NamedTuple):
    """A word and its place: ``source[start:end] == text``, in Unicode code points.

    Attributes:
        visible: what a reader sees of it, which the network reads.
        line: the number of its line, from 0.
        is_link: whether it leads somewhere: a link or an e-mail address, which is no entity nor part of one.
    """

    text: str
    start: int
    end: int
    visible: str
    line: int = 0
    is_link: bool = False


def split_words(text: str) -> list[Word]:
    """Split raw text into ordered, non-overlapping words that cover everything visible but white space."""
    read = read_visible(text)
    breaks = [match.start() for match in _LINE_BREAK.finditer(read.text)]
    words: list[Word] = []
    for start, end, link in _find_words(read.text):
        first, last = read.starts[start], read.ends[end - 1]
        if words and first < words[-1].end:  # both are read from one character or HTML entity
            first, start = words[-1].start, end - len(words.pop().visible) - (end - start)
        line = bisect_right(breaks, start) if breaks else 0
        words.append(Word(text[first:last], first, last, read.text[start:end], line, link))
    return words


def join_words(words: Sequence[str], line_starts: Collection[int] = ()) -> list[Word]:
    """Place already split words in ``" ".join(words)``; ``line_starts`` are the words that begin a new line."""
    placed = []
    start = line = 0
    before = ""
    for position, word in enumerate(words):
        line += position in line_starts
        sign = before if before in _SIGNS else ""  # a handle's underscores and periods are its own
        read = visible(sign + word).removeprefix(sign)
        placed.append(Word(word, start, start + len(word), read, line, not sign and is_link(read)))
        before = word
        start += len(word) + 1
    return placed


def _find_words(text: str) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each word of a text, and whether it is a link."""
    cut = not text.isascii() and needs_cutting(text)
    pattern = _WORDS_AND_LINKS if may_have_links(text) else _WORDS
    for match in pattern.finditer(text):
        start, end = match.span()
        if match["letters"] is None:
            yield start, end, match.lastgroup == "link"
            continue
        for first, last in cut_by_script(match[0]) if cut else [(0, end - start)]:
            yield start + first, start + last, False
