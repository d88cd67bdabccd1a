"""What a reader sees of a text, and where each of its characters stands in the text as sent.

Soft hyphens and other characters that show nothing are left out, HTML entities and styled letters are read as what they
stand for: ``&#79;slo``, ``𝐎𝐬𝐥𝐨`` and ``_Oslo_`` are all read as Oslo.
"""

import functools
import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html.entities import html5

import regex

_EMOJI = r"\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*"
EMOJI_SEQUENCE = rf"{_EMOJI}(?:\u200D{_EMOJI})*"  # with skin tone or tags, joined to more of them by ZWJ
_AFTER = r"(?![\p{L}\p{M}\p{N}_])"
_OPENING = r"(?<![\p{L}\p{M}\p{N}_@\#])(?<![@\#]\ )_{1,3}"  # underscores are part of handles and hashtags
_EMPHASIZED = r"(?=[\p{L}\p{N}\p{So}&])[^_\n\r]{1,200}(?<=\S)"
# Alternatives are tried in this order. All but the first group are read differently from how they are written.
_READ = regex.compile(
    rf"""
    (?=[^ -%'-^`-~]|[\t-\r])(?:  # most characters need no closer look
      (?P<emoji>\p{{RI}}|\uFE0F?\u20E3|(?!Ⓜ(?!\uFE0F)){EMOJI_SEQUENCE})  # flag, keycap, joined sequences
    | (?P<entity>&(?:\#[0-9]{{1,7}}|\#[xX][0-9A-Fa-f]{{1,6}}|[A-Za-z][A-Za-z0-9]{{1,31}});)
    | (?P<unseen>[\p{{Default_Ignorable_Code_Point}}\uFFF9-\uFFFB\x00-\x08\x0e-\x1f\x7f]+
        | {_OPENING}(?={_EMPHASIZED}_{{1,3}}{_AFTER}) | (?<={_OPENING}{_EMPHASIZED})_{{1,3}}{_AFTER})  # of _Madrid_
    | (?P<syllable>[\u1100-\u1112][\u1161-\u1175][\u11A8-\u11C2]?)  # of Hangul, in parts
    | (?P<styled>[^\x00-\x7F][\uFF9E\uFF9F]*)  # half-width kana with their marks
    )
    """,
    regex.VERBOSE | regex.VERSION1,
)
_PLAIN = regex.compile(r"[\t-\r -%'-^`-~]*")  # ASCII without controls, ampersands and underscores
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_LETTERS = regex.compile(r"[\p{L}\p{N}\p{M}]+")
_STYLED = regex.compile(r"[\p{L}\p{N}\p{Alphabetic}\uFF01-\uFF5E]")
_HANGUL_JAMO = regex.compile(r"[\u3131-\u318E\uFFA0-\uFFDC]")  # would become parts of syllables


@dataclass(frozen=True, slots=True)
class VisibleText:
    """A text as it is read; its character ``i`` is read from ``source[starts[i]:ends[i]]``.

    Several characters may be read from one (a ligature) and one from several (an HTML entity).
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def read_visible(source: str) -> VisibleText:
    """Read a text as people see it; the mapping refers to the text as sent."""
    if _PLAIN.fullmatch(source):
        return VisibleText(source, range(len(source)), range(1, len(source) + 1))
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    for match in _READ.finditer(source):
        read = _reading(match)
        if read == match[0]:
            continue
        parts += [source[done : match.start()], read]
        starts += [*range(done, match.start()), *[match.start()] * len(read)]
        ends += [*range(done + 1, match.start() + 1), *[match.end()] * len(read)]
        done = match.end()
    parts.append(source[done:])
    starts += range(done, len(source))
    ends += range(done + 1, len(source) + 1)
    return VisibleText("".join(parts), starts, ends)


def visible(word: str) -> str:
    """What a reader sees of a word; the word itself if that is nothing."""
    return read_visible(word).text or word


def _reading(match: regex.Match[str]) -> str:
    if match["emoji"]:
        return match[0]
    if match["entity"]:
        return _UNSEEN.sub("", _character(match[0]))
    if match["syllable"]:
        return unicodedata.normalize("NFC", match[0])
    return "" if match["unseen"] else _unstyled(match[0])


def _character(entity: str) -> str:
    """What an HTML entity stands for; the entity itself if there is no such one."""
    return html.unescape(entity) if entity[1] == "#" else html5.get(entity[1:], entity)


@functools.lru_cache(4096)
def _unstyled(cluster: str) -> str:
    """NFKC of letters and numbers that differ only in style: not of ``…``, ``½`` or ``²``, which mean more."""
    raised_number = unicodedata.category(cluster[0]) == "No" and "<su" in unicodedata.decomposition(cluster[0])
    if raised_number or not _STYLED.match(cluster) or _HANGUL_JAMO.match(cluster):
        return cluster
    plain = unicodedata.normalize("NFKC", cluster)
    return plain if _LETTERS.fullmatch(plain) or "\uff01" <= cluster <= "\uff5e" else cluster
