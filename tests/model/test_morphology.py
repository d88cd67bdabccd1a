import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.morphology import Morph, MorphInputs, morph


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
def test_a_word_is_classified_by_its_casing(word: str, expected: Morph) -> None:
    assert morph(word) is expected


@given(st.text())
def test_no_word_looks_like_padding(word: str) -> None:
    assert morph(word) is not Morph.PADDING


def test_padding_is_zero_so_that_zero_filled_rows_are_padding() -> None:
    assert int(Morph.PADDING) == 0


def test_each_words_morph_is_added_to_its_sub_tokens_and_to_no_other() -> None:
    """[CLS] pa ##ris HAS [SEP] and a padded post [CLS] 9 [SEP] [PAD] [PAD]."""
    inputs = MorphInputs(1)
    with torch.no_grad():
        inputs.embedding.weight.copy_(torch.tensor([[0.0], [10], [20], [30], [40], [50]]))
    starts, ends = torch.tensor([[1, 3], [1, 0]]), torch.tensor([[2, 3], [1, 0]])
    morphs = torch.tensor([[Morph.LOWER, Morph.UPPER], [Morph.DIGIT, Morph.PADDING]])
    added = inputs(torch.ones(2, 5, 1), starts, ends, morphs)[..., 0]
    assert added.tolist() == [[1, 21, 21, 11, 1], [1, 41, 1, 1, 1]]
