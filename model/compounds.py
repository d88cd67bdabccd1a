"""Words that are written as one and read as several: NHLBlackhawks, @premierleague, #subzerofestival.

An encoder that does not know such a word reads it in fragments (``premier ##lea ##gue``), though it knows its parts; an
uncased one does not even see that they begin with capitals.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import chain, pairwise

import regex

# Three letters have to stand before the first and the third, so that McCain, iPhone and LeBron stay whole.
_CAMEL_CASE = regex.compile(
    r"""
      (?<=\p{L}{2}\p{Ll})(?=\p{Lu})           # LeBron|James: lower to upper
    | (?<=\p{Lu}{2})(?=\p{Lu}\p{Ll}{2})       # NHL|Blackhawks: an acronym to a name
    | (?<=\p{L}{3})(?=\p{N})                  # Euro|2016: letters to a number
    """,
    regex.VERBOSE | regex.VERSION1,
)
_RUN = regex.compile(r"(?<!\p{L})[a-z]{5,40}(?!\p{L})")  # what may hide words; the limit bounds the search
_LONGEST = 20  # letters of a part
# Nats. What is not in the vocabulary costs by the letter, so that it is as short as it can be; words of two letters,
# most of which are abbreviations, are everywhere.
_UNKNOWN, _UNKNOWN_LETTER, _SHORT = 9.0, 2.5, 6.0


class CompoundSplitter:
    """Splits camel case wherever it stands, and the lower-case names behind ``@`` and ``#``.

    The latter into those of the vocabulary's words, and pieces of three letters or more that are none, that are
    likeliest by Zipf's law: the r-th of N words has the probability 1 / (r ln N). Vocabularies are sorted by frequency.

    Args:
        vocabulary: a tokenizer's, ids by token; whole words are marked as in WordPiece (the others by ``##``),
            SentencePiece (``▁``) or byte-level BPE (``Ġ``).
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        words = sorted(_whole_words(vocabulary), key=lambda word: word[1])
        total = math.log(max(2, len(words)))
        self._costs = {word: math.log(rank * total) for rank, (word, _) in enumerate(words, start=1)}

    def split(self, word: str, *, before: str = "") -> list[str]:
        """The parts of ``word`` in order, which together are the word; ``before`` is the word before it.

        Links have none; handles that are one word with their sign, which is how Twitter-2015 has them, are no names.
        """
        if "://" in word or word.startswith("@"):
            return [word]
        parts = [part for part in _CAMEL_CASE.split(word) if part]
        if before in ("@", "#") or word.startswith("#"):
            parts = list(chain.from_iterable(map(self._split_runs, parts)))
        return parts

    def _split_runs(self, part: str) -> list[str]:
        ends = [0]
        for run in _RUN.finditer(part):
            ends += [run.start() + end for end in (0, *self._ends(run[0]))]
        return [part[start:end] for start, end in pairwise([*ends, len(part)]) if start < end]

    def _ends(self, letters: str) -> list[int]:
        """Where the likeliest parts end, by dynamic programming over the first letters."""
        best: list[tuple[float, list[int]]] = [(0.0, [])]
        for end in range(1, len(letters) + 1):
            starts = range(max(0, end - _LONGEST), end)
            best.append(
                min((best[start][0] + self._cost(letters[start:end]), [*best[start][1], end]) for start in starts)
            )
        return best[-1][1]

    def _cost(self, part: str) -> float:
        if len(part) < 2:
            return math.inf
        if (known := self._costs.get(part)) is not None:
            return known + (_SHORT if len(part) == 2 else 0.0)
        return math.inf if len(part) == 2 else _UNKNOWN + _UNKNOWN_LETTER * len(part)


def _whole_words(vocabulary: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """The vocabulary's lower-case words of two letters or more, with their ids."""
    marks = {token[0] for token in vocabulary if token[:1] in ("▁", "Ġ")}
    word = regex.compile(f"[{''.join(marks)}]([a-z]{{2,}})" if marks else "([a-z]{2,})")
    for token, number in vocabulary.items():
        if found := word.fullmatch(token):
            yield found[1], number
