"""Links and e-mail addresses: which strings of a post lead somewhere.

A link begins with a scheme or ``www.``, or with a host name under a real top-level domain. Where the domain is also a
word (``it``, ``live``), a missing blank after a sentence looks the same (``love.it``), so it must have a path
(``redd.it/abc``) or a third part (``news.google.it``). docs/texts.md has the counts of false alarms.
"""

from importlib.resources import files
from typing import Any

import regex

SCHEMES = ("http", "https", "ftp", "ftps", "sftp", "ssh", "git", "ws", "wss", "rtsp", "rtmp", "irc", "ircs", "file")


def _top_level_domains() -> tuple[list[str], list[str]]:
    """The domains that are only names, and those that are also words."""
    text = files("model.preprocessing").joinpath("top_level_domains.txt").read_text("utf-8")
    _, names, words = regex.split(r"(?m)^\[\w+\]$", text)
    return names.split(), words.split()


_NAMES, _WORDS = _top_level_domains()
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Khmer}\p{Lao}\p{Myanmar}]"  # scripts
_CLOSED = r"\([^\s()<>\"“”]{0,200}\)"
_PUNCTUATION = r".,;:!?)\]}'’…"  # ends no link, but Twitter shortens links with an ellipsis
_CHARACTER = rf"""(?!{_CLOSED})[^\s<>"“”«»「」『』，。、{_PUNCTUATION}{UNSPACED}]|(?<=[/=_\-]|{UNSPACED}){UNSPACED}"""
_REST = rf"(?:[{_PUNCTUATION}]*+(?:{_CLOSED}|{_CHARACTER}))++…?"  # Japanese follows without a space, or after a slash
_LETTER = rf"[[\p{{L}}\p{{N}}]--{UNSPACED}]"
_LABEL = rf"{_LETTER}(?:[{_LETTER}\-]{{0,61}}{_LETTER})?+"
_HOST = rf"(?:{_LABEL}\.){{1,6}}"
_END = r"(?![\p{L}\p{M}\p{N}_@\-]|\.[\p{L}\p{N}])"
_PORT = r"(?::\p{N}{1,5})?"
_PATH = rf"{_PORT}[/?\#](?:{_REST})?"

# Where letters before a link end: https://… follows without a space, and so does Latin script after Japanese.
GLUED = rf"(?i:(?:https?|ftps?)://)|(?<={UNSPACED})[A-Za-z0-9]"

# Every repetition is bounded or possessive, so that a search takes linear time.
LINK = rf"""
      (?i:(?:{"|".join(SCHEMES)})://|www\.|mailto:(?=[^\s@]{{1,64}}@)){_REST}
    | (?<![[\p{{L}}--{UNSPACED}]\p{{M}}\p{{N}}_@\#.\-])(?:
          [\p{{L}}\p{{N}}_](?:[\p{{L}}\p{{N}}_%+\-]|\.(?!\.)){{0,63}}@{_HOST}(?i:\L<domains>){_END}   # an address
        | {_HOST}(?i:\L<domains>){_PATH}
        | {_HOST}(?:\L<names>|(?i:com|edu|gov|net|org)){_PORT}{_END}
        | (?:[A-Z0-9](?:[A-Z0-9\-]{{0,61}}[A-Z0-9])?+\.){{1,6}}(?:\L<capital_names>){_PORT}{_END}
        | {_HOST}\p{{L}}[\p{{L}}\p{{N}}\-]{{1,62}}\.(?:\L<words>){_PORT}{_END}
      )
"""
NAMED_LISTS: dict[str, Any] = {
    "domains": [*_NAMES, *_WORDS],
    "names": _NAMES,
    "capital_names": [name.upper() for name in _NAMES if name.isascii()],
    "words": [word for word in _WORDS if len(word) > 1],
}
_WHOLE = regex.compile(LINK, regex.VERBOSE | regex.VERSION1, **NAMED_LISTS)


_HINT = regex.compile(r"(?i:://|www\.|mailto:)|[\p{L}\p{N}]\.\p{L}", regex.VERSION1)


def may_have_links(text: str) -> bool:
    """Whether it is worth looking for links; most posts have none, and this is fast."""
    return _HINT.search(text) is not None


def is_link(word: str) -> bool:
    """Whether a whole word is a link or an e-mail address."""
    return may_have_links(word) and _WHOLE.fullmatch(word) is not None
