import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.preprocessing.compounds import CompoundSplitter

# sorted by frequency, as vocabularies are; "per" would be a part of "katyperry", too
WORDS = [
    "the",
    "of",
    "to",
    "not",
    "love",
    "per",
    "lady",
    "league",
    "festival",
    "premier",
    "perry",
    "katy",
    "gaga",
    "rs",
    "youtube",
]
VOCABULARY = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS, "##the", "##r", "x", "don't"])}
SPLITTER = CompoundSplitter(VOCABULARY)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ArmsParkCardiff", ["Arms", "Park", "Cardiff"]),
        ("NHLBlackhawks", ["NHL", "Blackhawks"]),
        ("PredsNHL", ["Preds", "NHL"]),
        ("StephenCurry30", ["Stephen", "Curry", "30"]),
        ("LeBronJames", ["LeBron", "James"]),
        ("ÉcoleNormale", ["École", "Normale"]),
        ("FCBoulder_PDL", ["FC", "Boulder_PDL"]),
    ],
)
def test_camel_case_is_split_wherever_it_stands(word: str, expected: list[str]) -> None:
    assert SPLITTER.split(word) == expected


@pytest.mark.parametrize("word", ["McCain", "iPhone", "LeBron", "VMAs", "2nd", "NASA", "Paris", "G7", "JLo", "B2B", ""])
def test_what_is_no_compound_stays_whole(word: str) -> None:
    assert SPLITTER.split(word, before="@") == [word]


def cost(parts: tuple[str, ...]) -> float:
    """Nats by Zipf's law; words of two letters and unknown parts as the module says."""
    total = 0.0
    for part in parts:
        if part in WORDS:
            total += math.log((1 + WORDS.index(part)) * math.log(len(WORDS))) + (6.0 if len(part) == 2 else 0.0)
        else:
            total += 9 + 2.5 * len(part) if len(part) > 2 else math.inf
    return total


def splits(letters: str) -> Iterator[tuple[str, ...]]:
    """All ways to take letters apart."""
    yield (letters,)
    for end in range(1, len(letters)):
        yield from ((letters[:end], *rest) for rest in splits(letters[end:]))


@given(
    st.lists(st.sampled_from([*WORDS, "r", "s", "g", "xyz"]), min_size=1, max_size=4)
    .map("".join)
    .filter(lambda handle: 5 <= len(handle) <= 12 and handle not in WORDS)
)
def test_no_other_way_to_take_a_handle_apart_is_likelier(handle: str) -> None:
    assert cost(tuple(SPLITTER.split(handle, before="@"))) == pytest.approx(min(map(cost, splits(handle))))


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        ("premierleague", ["premier", "league"]),
        ("katyperry", ["katy", "perry"]),
        ("lovenotthe", ["love", "not", "the"]),
        ("tuskafestival", ["tuska", "festival"]),  # what is unknown is a part, too
        ("premierleague2016", ["premier", "league", "2016"]),
        ("lady_gagafestival", ["lady_", "gaga", "festival"]),
        ("iHeartladygaga", ["iHeartladygaga"]),  # no run of small letters by itself
    ],
)
def test_the_name_behind_a_sign_is_split_into_words_of_the_vocabulary(handle: str, expected: list[str]) -> None:
    assert SPLITTER.split(handle, before="@") == expected
    assert SPLITTER.split(handle, before="#") == expected


@pytest.mark.parametrize("word", ["#premierleague", "@premierleague", "#SouthSudan", "@PremierLeague", "@", "#"])
def test_where_signs_are_parts_of_words_they_are_whole(word: str) -> None:
    """Twitter-2015 has handles and hashtags as one word each."""
    assert SPLITTER.split(word) == [word]


def test_elsewhere_small_letters_are_one_word() -> None:
    assert SPLITTER.split("premierleague", before="the") == ["premierleague"]


@pytest.mark.parametrize("word", ["YouTube", "youtube", "YOUTUBE"])
def test_a_word_of_the_vocabulary_is_whole_however_it_is_written(word: str) -> None:
    assert SPLITTER.split(word, before="@") == [word]


def test_what_is_unknown_is_one_part_whatever_its_length() -> None:
    """Parts once had at most twenty letters, and longer ones were cut anywhere."""
    assert SPLITTER.split("zqxjkvwpzqxjkvwpzqxjk", before="@") == ["zqxjkvwpzqxjkvwpzqxjk"]


def test_an_accent_that_is_a_character_of_its_own_stays_with_its_letter() -> None:
    assert SPLITTER.split("premierleague\u0301", before="@") == ["premierleague\u0301"]


def test_a_link_has_no_parts() -> None:
    assert SPLITTER.split("http://t.co/PremierLeague2016", before="@") == ["http://t.co/PremierLeague2016"]


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_the_words_of_other_tokenizers_are_those_with_their_mark(mark: str) -> None:
    own = CompoundSplitter({"league": 0, f"{mark}premier": 1, f"{mark}perry": 2, "lea": 3, f"{mark}katy": 4})
    assert own.split("katyperry", before="@") == ["katy", "perry"]
    assert own.split("premierleague", before="@") == ["premier", "league"]  # the second as what is left


def test_one_odd_token_does_not_make_a_word_piece_vocabulary_another() -> None:
    own = CompoundSplitter({"premier": 0, "league": 1, "##s": 2, "Ġodd": 3})
    assert own.split("premierleague", before="@") == ["premier", "league"]


def test_the_names_of_a_cased_vocabulary_are_words() -> None:
    own = CompoundSplitter({"▁Perry": 0, "▁Katy": 1})
    assert own.split("katyperry", before="@") == ["katy", "perry"]


def test_without_a_vocabulary_camel_case_is_split_all_the_same() -> None:
    own = CompoundSplitter({})
    assert own.split("MetGala", before="@") == ["Met", "Gala"]
    assert own.split("metgala", before="@") == ["metgala"]


@given(st.text(max_size=60), st.sampled_from(["", "@", "#", "a"]))
def test_the_parts_together_are_the_word(word: str, before: str) -> None:
    assert "".join(SPLITTER.split(word, before=before)) == word


@given(st.lists(st.sampled_from([*WORDS, "Premier", "NHL", "7", "_"]), min_size=1, max_size=12).map("".join))
def test_the_parts_of_made_up_handles_together_are_the_handle(word: str) -> None:
    parts = SPLITTER.split(word, before="@")
    assert "".join(parts) == word
    assert all(parts)


def test_a_handle_of_any_length_is_split_in_no_time() -> None:
    """The search is over runs of thirty letters at most; a longer one is left whole."""
    began = time.process_time()
    assert SPLITTER.split("katyperry" * 20_000, before="@") == ["katyperry" * 20_000]
    SPLITTER.split(f"{'q' * 30}_" * 1_000, before="@")
    SPLITTER.split("MetGala" * 20_000, before="@")
    assert time.process_time() - began < 2
