import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import Entity
from model.display.marked_text import cut, escape_json, harmless, label

TEXT = "Kawhi Leonard is in Oslo"
FOUND = [Entity("LOC", "Oslo", 20, 24, 0.5), Entity("PER", "Kawhi Leonard", 0, 13, 0.987)]


def test_a_text_is_cut_at_its_entities() -> None:
    pieces = list(cut(TEXT, FOUND))
    assert [piece.text for piece in pieces] == ["Kawhi Leonard", " is in ", "Oslo"]
    assert [piece.entity for piece in pieces] == [FOUND[1], None, FOUND[0]]


def test_neighbors_without_a_gap_stay_apart() -> None:
    pieces = list(cut("東京タワー", [Entity("LOC", "東京", 0, 2, 1), Entity("LOC", "タワー", 2, 5, 1)]))
    assert [piece.text for piece in pieces] == ["東京", "タワー"]


def test_a_label_is_type_and_score() -> None:
    assert label(FOUND[1]) == "PER 0.99"
    assert label(Entity("\x1b[31mPER", "a", 0, 1, 1)) == "␛[31mPER 1.00"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m", "\\u009b31m"),  # CSI in one character
        ("a\x7fb\x00", "a␡b␀"),
        ("over\rwritten", "over␍written"),
        ("one\r\ntwo\n\n\tthree", "one\ntwo\n\n\tthree"),
        ("a\u2028b\x85c", "a\\u2028b\\u0085c"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("half \ud83d", "half \\ud83d"),
        ("👩‍🚀 שלום 東京 é [bold] \\n", "👩‍🚀 שלום 東京 é [bold] \\n"),
    ],
)
def test_what_would_be_obeyed_is_shown(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert {unicodedata.category(c) for c in harmless(text) if c not in "\n\t"}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})


@given(st.text())
def test_escaped_json_means_the_same(text: str) -> None:
    escaped = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(escaped) == {"text": text}
    assert {unicodedata.category(c) for c in escaped}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})


def test_only_what_is_harmful_is_escaped_in_json() -> None:
    assert escape_json('{"text": "東京\\n\x9b\u202e\x7f"}') == '{"text": "東京\\n\\u009b\\u202e\\u007f"}'
