"""Words that are written as one and read as several: NHLBlackhawks, @premierleague, #subzerofestival.

An encoder that does not know such a word reads it in fragments (``premier ##lea ##gue``), though it knows its parts; an
uncased one does not even see that they begin with capitals.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise

import regex

# LeBron|James is split and Le|Bron is not: three letters have to stand before a capital or a number.
_CAMEL_CASE = regex.compile(
    r"""
      (?<=\p{L}{2}\p{Ll})(?=\p{Lu})           # Met|Gala: lower to upper
    | (?<=\p{Lu}{2})(?=\p{Lu}\p{Ll}{2})       # NHL|Blackhawks: an acronym to a name
    | (?<=\p{L}{3})(?=\p{N})                  # Euro|2016: letters to a number
    """,
    regex.VERBOSE | regex.VERSION1,
)
_SIGNS = ("@", "#")
# What may hide words. The limit bounds the search: handles have at most 15 letters.
_RUN = regex.compile(r"(?<![\p{L}\p{M}])[a-z]{5,30}(?![\p{L}\p{M}])")

# Nats. What is not in the vocabulary costs by the letter, so that it is as short as it can be; words of two letters,
# most of which are abbreviations, are everywhere.
_UNKNOWN, _UNKNOWN_LETTER, _SHORT = 9.0, 2.5, 6.0


class CompoundSplitter:
    """Splits camel case wherever it stands, and the lower-case names behind ``@`` and ``#``.

    The latter are taken apart into words of the vocabulary and pieces of three letters or more that are none, as is
    likeliest by Zipf's law: the r-th of N words has the probability 1 / (r ln N). Vocabularies are sorted by frequency.

    Args:
        vocabulary: a tokenizer's, ids by token; whole words are told from parts as in WordPiece (parts begin with
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
        """The parts of ``word`` in order, which together are the word; ``before`` is the word before it.

        Words of the vocabulary are whole, as YouTube, and so are links. So are handles and hashtags that are one word
        with their sign, as Twitter-2015 has them: few of those are entities, and read in parts they look like some.
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
            ends += [run.start() + end for end in (0, *self._ends(run[0]))]
        return [part[start:end] for start, end in pairwise([*ends, len(part)]) if start < end] or [part]

    def _ends(self, letters: str) -> list[int]:
        """Where the likeliest parts end, by dynamic programming over the first letters."""
        # of the first 0, 1, … letters: what they cost at least, and where their last part starts
        costs, starts = [0.0], [0]
        unknown, since = math.inf, 0  # what they cost if their last part is no word, and where that starts
        for end in range(1, len(letters) + 1):
            unknown += _UNKNOWN_LETTER
            if end >= 3 and (anew := costs[end - 3] + _UNKNOWN + 3 * _UNKNOWN_LETTER) < unknown:
                unknown, since = anew, end - 3
            cost, start = unknown, since
            for other in range(max(0, end - self._longest), end - 1):
                if (known := self._costs.get(letters[other:end])) is None:
                    continue
                if (anew := costs[other] + known) < cost or (anew == cost and other < start):
                    cost, start = anew, other
            costs.append(cost)
            starts.append(start)
        ends = [len(letters)]
        while start := starts[ends[-1]]:
            ends.append(start)
        return ends[::-1]


def _whole_words(vocabulary: Mapping[str, int]) -> Iterator[str]:
    """The vocabulary's words of two letters or more, in its order."""
    pieces = any(token.startswith("##") for token in vocabulary)
    marks = {token[0] for token in vocabulary if token[:1] in ("▁", "Ġ")}
    word = regex.compile("([A-Za-z]{2,})" if pieces or not marks else f"[{''.join(marks)}]([A-Za-z]{{2,}})")
    for token in sorted(vocabulary, key=vocabulary.__getitem__):
        if found := word.fullmatch(token):
            yield found[1]
