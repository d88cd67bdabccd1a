"""The words of ordinary English posts are those of the expression with which the checkpoints' data were split."""

from collections.abc import Iterator
from pathlib import Path

import regex

from model.preprocessing.words import split_words

_PLAIN = regex.compile(
    r"""
      (?:https?://|www\.)[^\s<>"“”]*[^\s<>"“”.,;:!?)\]}'’…]…?
    | \p{RI}\p{RI}
    | [0-9\#*]\uFE0F?\u20E3
    | (?![0-9\#*])\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*
      (?:\u200D\p{Emoji}[\p{Emoji_Modifier}\p{M}\U000E0020-\U000E007F]*)*
    | (?<![\p{L}\p{N}])[:;=]-?[)(DP](?![\p{L}\p{M}\p{N}])
    | (?:\p{N}(?!\uFE0F?\u20E3))++(?:[.,](?:\p{N}(?!\uFE0F?\u20E3))++)*+\p{M}*
    | \p{Han}\p{M}*
    | [\p{L}_](?:[\u200C\u200D]?(?:[[\p{L}\p{M}_]--\p{Han}]|\p{N}(?!\uFE0F?\u20E3)))*+
    | \S\p{M}*
    """,
    regex.VERBOSE | regex.VERSION1,
)
_SPECIAL = regex.compile(
    r"""
      &\#?\w+;                                                 # an HTML entity
    | (?<![@\#]\ ?|\w)_+[^\W_]                                 # perhaps emphasis
    | [\p{L}--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Common}]]      # another script
    | [\p{Alphabetic}--[\p{L}\p{M}\p{N}]]                      # letters in boxes and circles
    | [\p{DI}--\uFE0F] | (?<!\p{Emoji})\uFE0F                  # what shows nothing
    """,
    regex.VERBOSE | regex.VERSION1,
)


def benchmark_posts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("twitter201*/*.txt")):
        for post in path.read_text("utf-8").split("\n\n"):
            yield " ".join(line.split("\t")[0] for line in post.split("\n") if "\t" in line)


def test_plain_english_is_split_as_ever(shared_data: Path) -> None:
    """On all benchmark posts and a fifth of the tweets; 95 % of them are plain."""
    tweets = (shared_data / "tweets" / "tweets.txt").read_text("utf-8").split("\n")[::5]
    posts = [*benchmark_posts(shared_data), *tweets]
    plain = 0
    for text in posts:
        words = split_words(text)
        before = [match.span() for match in _PLAIN.finditer(text)]
        new_link = any(word.is_link and (word.start, word.end) not in before for word in words)
        if not new_link and not _SPECIAL.search(text):
            plain += 1
            assert [(word.start, word.end) for word in words] == before, text
            assert all(word.visible == word.text for word in words if word.text.isascii())
    assert plain > 0.9 * len(posts) > 25_000
