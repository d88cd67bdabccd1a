"""Cuts words where the script changes, and scripts that are written without spaces into words.

An entity can only be found if it begins and ends with a word. Japanese particles follow names without a space, as in
``トヨタの``, and so do Korean ones in the same script (``서울에서``). So Hangul is cut into single characters.
Han is, too, because dictionaries lack names and join their parts to what is around them. For Hiragana, Thai, Khmer,
Lao and Burmese ICU's dictionaries know the words.
"""

from collections.abc import Iterator

import regex
from icu4py.breakers import WordBreaker

from model.preprocessing.links import UNSPACED

_DICTIONARIES = {"Hiragana": "ja", "Thai": "th", "Khmer": "km", "Lao": "lo", "Myanmar": "my"}  # ICU's, by locale
# Greek and Cyrillic letters are mixed into Latin words on purpose (Δelta). Common are ª and the like.
_ALPHABETS = r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{Common}\p{Inherited}]"
_DICTIONARY_RUNS = " | ".join(rf"(?P<{script}>(?:\p{{{script}}}\p{{M}}*|ー)+)" for script in _DICTIONARIES)

_NEEDED = regex.compile(rf"[\p{{L}}--{_ALPHABETS}]", regex.VERSION1)
_RUN = regex.compile(
    rf"""
      [\p{{Han}}\p{{Hangul}}]\p{{M}}*
    | (?:\p{{Katakana}}\p{{M}}*|ー)+
    | {_DICTIONARY_RUNS}
    | [\p{{L}}--{UNSPACED}--{_ALPHABETS}](?:[[\p{{L}}--{UNSPACED}--{_ALPHABETS}]_\p{{M}}\p{{N}}])*+
    | (?:[_[\p{{L}}\p{{M}}]--{UNSPACED}]|\p{{N}})(?:[[_\p{{L}}\p{{M}}\p{{N}}]&&[_\p{{N}}\p{{M}}{_ALPHABETS}]])*+
    | .
    """,
    regex.VERBOSE | regex.VERSION1 | regex.DOTALL,
)


def needs_cutting(text: str) -> bool:
    """Whether a text has letters that :func:`cut_by_script` may cut; English has none."""
    return _NEEDED.search(text) is not None


def cut_by_script(letters: str) -> Iterator[tuple[int, int]]:
    """The parts of a sequence of letters, marks and numbers, as start and end in code points, in order."""
    for match in _RUN.finditer(letters):
        locale = _DICTIONARIES.get(match.lastgroup or "")
        if locale is None:
            yield match.span()
            continue
        places = _code_points(match[0])
        for start, end in WordBreaker(match[0], locale).segments():
            yield match.start() + places[start], match.start() + places[end]


def _code_points(text: str) -> list[int]:
    """The code point of each of a text's UTF-16 units, which ICU counts in, and of its end."""
    return [i for i, character in enumerate(text) for _ in range(1 + (character > "\uffff"))] + [len(text)]
