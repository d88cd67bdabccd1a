import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.preprocessing.compounds import CompoundSplitter

# Sorted by frequency, as vocabularies are. "per" would be a part of "katyperry", too.
WORDS = [
    *["the", "of", "to", "not", "love", "per", "lady", "league"],
    *["festival", "premier", "perry", "katy", "gaga", "rs", "youtube"],
]
VOCABULARY = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS, "##the", "##r", "x", "don't"])}
SPLITTER = CompoundSplitter(VOCABULARY)


@pytest.mark.parametrize(
    "parts",
    [
        *["Arms Park Cardiff", "NHL Blackhawks", "Preds NHL", "Stephen Curry 30"],
        *["LeBron James", "École Normale", "FC Boulder_PDL"],
    ],
)
def test_camel_case_is_split_anywhere(parts: str) -> None:
    assert SPLITTER.split(parts.replace(" ", "")) == parts.split(" ")


@pytest.mark.parametrize(
    "word",
    [
        *["McCain", "iPhone", "LeBron", "VMAs", "2nd", "NASA", "Paris", "G7", "JLo", "B2B", ""],  # no compounds
        *["YouTube", "youtube", "YOUTUBE"],  # in the vocabulary
        "zqxjkvwpzqxjkvwpzqxjk",  # unknown; parts were once limited to twenty letters
        "premierleague\u0301",  # the accent is a character of its own
        "http://t.co/PremierLeague2016",
    ],
)
def test_other_words_stay_whole(word: str) -> None:
    assert SPLITTER.split(word, before="@") == [word]


@pytest.mark.parametrize("word", ["#premierleague", "@premierleague", "#SouthSudan", "@PremierLeague", "@", "#"])
def test_words_with_their_sign_stay_whole(word: str) -> None:
    """As Twitter-2015 has handles and hashtags."""
    assert SPLITTER.split(word) == [word]


def test_lower_case_is_split_only_after_a_sign() -> None:
    assert SPLITTER.split("premierleague", before="the") == ["premierleague"]


@pytest.mark.parametrize("sign", ["@", "#"])
@pytest.mark.parametrize(
    "parts",
    [
        "premier league",
        "katy perry",
        "love not the",
        "tuska festival",  # unknown letters are a part, too
        "premier league 2016",
        "lady_ gaga festival",
        "iHeartladygaga",  # the lower-case run continues a word
    ],
)
def test_names_are_split_into_vocabulary_words(parts: str, sign: str) -> None:
    assert SPLITTER.split(parts.replace(" ", ""), before=sign) == parts.split(" ")


def cost(parts: tuple[str, ...]) -> float:
    """Nats by Zipf's law, with the module's costs for words of two letters and unknown parts."""
    total = 0.0
    for part in parts:
        if part in WORDS:
            total += math.log((1 + WORDS.index(part)) * math.log(len(WORDS))) + (6.0 if len(part) == 2 else 0.0)
        else:
            total += 9 + 2.5 * len(part) if len(part) > 2 else math.inf
    return total


def splits(letters: str) -> Iterator[tuple[str, ...]]:
    """All ways to split letters."""
    yield (letters,)
    for end in range(1, len(letters)):
        yield from ((letters[:end], *rest) for rest in splits(letters[end:]))


@given(
    st.lists(st.sampled_from([*WORDS, "r", "s", "g", "xyz"]), min_size=1, max_size=4)
    .map("".join)
    .filter(lambda handle: 5 <= len(handle) <= 12 and handle not in WORDS)
)
def test_no_other_split_is_likelier(handle: str) -> None:
    assert cost(tuple(SPLITTER.split(handle, before="@"))) == pytest.approx(min(map(cost, splits(handle))))


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        (["league", "▁premier", "▁perry", "lea", "▁katy"], "katy perry"),  # SentencePiece
        (["league", "▁premier", "▁perry", "lea", "▁katy"], "premier league"),  # the second as an unknown part
        (["league", "Ġpremier", "Ġperry", "lea", "Ġkaty"], "katy perry"),  # byte-level BPE
        (["league", "Ġpremier", "Ġperry", "lea", "Ġkaty"], "premier league"),
        (["premier", "league", "##s", "Ġodd"], "premier league"),  # WordPiece in spite of one odd token
        (["▁Perry", "▁Katy"], "katy perry"),  # cased
        ([], "Met Gala"),
        ([], "metgala"),
    ],
)
def test_whole_words_of_other_vocabularies_are_recognized(tokens: list[str], parts: str) -> None:
    splitter = CompoundSplitter({token: number for number, token in enumerate(tokens)})
    assert splitter.split(parts.replace(" ", ""), before="@") == parts.split(" ")


@given(st.text(max_size=60), st.sampled_from(["", "@", "#", "a"]))
def test_parts_join_to_the_word(word: str, before: str) -> None:
    assert "".join(SPLITTER.split(word, before=before)) == word


@given(st.lists(st.sampled_from([*WORDS, "Premier", "NHL", "7", "_"]), min_size=1, max_size=12).map("".join))
def test_parts_join_to_the_handle(word: str) -> None:
    parts = SPLITTER.split(word, before="@")
    assert "".join(parts) == word
    assert all(parts)


def test_long_handles_are_split_in_linear_time() -> None:
    """The search covers runs of at most thirty letters; longer ones stay whole."""
    began = time.process_time()
    assert SPLITTER.split("katyperry" * 20_000, before="@") == ["katyperry" * 20_000]
    SPLITTER.split(f"{'q' * 30}_" * 1_000, before="@")
    SPLITTER.split("MetGala" * 20_000, before="@")
    assert time.process_time() - began < 2
