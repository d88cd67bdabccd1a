"""Compounds, several words written as one: NHLBlackhawks, @premierleague, #subzerofestival.

A text encoder that does not know a compound reads it in fragments (``premier ##lea ##gue``) though it knows the parts;
an uncased one does not even see the capitals that begin them.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise

import regex

# Three letters must come before a capital or a number: splits LeBron|James but not Le|Bron.
_CAMEL_CASE = regex.compile(
    r"""
      (?<=\p{L}{2}\p{Ll})(?=\p{Lu})           # Met|Gala: lower to upper
    | (?<=\p{Lu}{2})(?=\p{Lu}\p{Ll}{2})       # NHL|Blackhawks: an acronym to a name
    | (?<=\p{L}{3})(?=\p{N})                  # Euro|2016: letters to a number
    """,
    regex.VERBOSE | regex.VERSION1,
)
_SIGNS = ("@", "#")
# Letters that may hide words. The limit bounds the search: handles have at most 15 letters.
_RUN = regex.compile(r"(?<![\p{L}\p{M}])[a-z]{5,30}(?![\p{L}\p{M}])")

# Costs in nats. An unknown part costs by the letter, which keeps it short; two-letter words cost extra, since most are
# abbreviations and would match everywhere.
_UNKNOWN, _UNKNOWN_LETTER, _SHORT = 9.0, 2.5, 6.0


class CompoundSplitter:
    """Splits camel case anywhere, and lower-case names after ``@`` and ``#``.

    Such a name is split into the likeliest sequence of vocabulary words and unknown parts of at least three letters. By
    Zipf's law the r-th of N words has the probability 1 / (r ln N); vocabularies are sorted by frequency.

    Args:
        vocabulary: a tokenizer's ids by token. Whole words are told from word parts as in WordPiece (parts begin with
            ``##``), SentencePiece or byte-level BPE (words begin with ``▁`` or ``Ġ``).
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        words = dict.fromkeys(word.lower() for word in _whole_words(vocabulary))
        total = math.log(max(2, len(words)))
        self._costs = {
            word: math.log(rank * total) + (_SHORT if len(word) == 2 else 0.0)
            for rank, word in enumerate(words, start=1)
        }
        self._longest = max(map(len, words), default=0)

    def split(self, word: str, *, before: str = "") -> list[str]:
        """Split ``word`` into parts that join back to it; ``before`` is the preceding word.

        Vocabulary words (YouTube) and links stay whole. So do handles and hashtags that include their sign, as in
        Twitter-2015: few of them are entities, and their parts would look like some.
        """
        if "://" in word or word.startswith(_SIGNS) or word.lower() in self._costs:
            return [word]
        parts = [part for part in _CAMEL_CASE.split(word) if part] or [word]
        if before in _SIGNS:
            parts = list(chain.from_iterable(map(self._split_runs, parts)))
        return parts

    def _split_runs(self, part: str) -> list[str]:
        ends = [0]
        for run in _RUN.finditer(part):
            ends += [run.start() + end for end in (0, *self._likeliest_ends(run[0]))]
        return [part[start:end] for start, end in pairwise([*ends, len(part)]) if start < end] or [part]

    def _likeliest_ends(self, letters: str) -> list[int]:
        """Where the likeliest parts end, by dynamic programming over the first letters."""
        costs, starts = [0.0], [0]  # by number of first letters: the lowest cost, and where the last part starts
        unknown, unknown_start = math.inf, 0  # the same if the last part is unknown
        for end in range(1, len(letters) + 1):
            unknown += _UNKNOWN_LETTER
            if end >= 3 and (new := costs[end - 3] + _UNKNOWN + 3 * _UNKNOWN_LETTER) < unknown:
                unknown, unknown_start = new, end - 3
            cost, start = unknown, unknown_start
            for other in range(max(0, end - self._longest), end - 1):
                if (known := self._costs.get(letters[other:end])) is None:
                    continue
                if (new := costs[other] + known) < cost or (new == cost and other < start):
                    cost, start = new, other
            costs.append(cost)
            starts.append(start)
        ends = [len(letters)]
        while start := starts[ends[-1]]:
            ends.append(start)
        return ends[::-1]


def _whole_words(vocabulary: Mapping[str, int]) -> Iterator[str]:
    """Words of at least two letters, in the vocabulary's order."""
    pieces = any(token.startswith("##") for token in vocabulary)
    marks = {token[0] for token in vocabulary if token[:1] in ("▁", "Ġ")}
    word = regex.compile("([A-Za-z]{2,})" if pieces or not marks else f"[{''.join(marks)}]([A-Za-z]{{2,}})")
    for token in sorted(vocabulary, key=vocabulary.__getitem__):
        if found := word.fullmatch(token):
            yield found[1]
