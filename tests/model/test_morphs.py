import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.morphs import Morph


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("NBA", Morph.UPPER),
        ("A", Morph.UPPER),  # not title
        ("3D", Morph.UPPER),
        ("lakers", Morph.LOWER),
        ("name_1", Morph.LOWER),
        ("Kawhi", Morph.TITLE),
        ("Élodie", Morph.TITLE),
        ("2017", Morph.DIGIT),
        ("iPhone", Morph.OTHER),
        ("McDonald", Morph.OTHER),
        ("10,000", Morph.OTHER),
        ("#", Morph.OTHER),
        ("😀", Morph.OTHER),
        ("東", Morph.OTHER),
    ],
)
def test_words_are_classified_by_casing(word: str, expected: Morph) -> None:
    assert Morph.of(word) is expected


@given(st.text())
def test_no_word_is_padding(word: str) -> None:
    assert Morph.of(word) is not Morph.PADDING


def test_padding_is_zero() -> None:
    """Rows are filled up with zeros."""
    assert int(Morph.PADDING) == 0
