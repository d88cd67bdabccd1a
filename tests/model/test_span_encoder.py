import pytest
import torch
from torch import Tensor, nn

from model.morphology import Morph
from model.span_encoder import SpanEncoder
from model.spans import Spans, enumerate_spans

# One post "[CLS] new ##yo ##rk NBA [SEP]": two words of sub-tokens 1..3 and 4, spans (0, 0), (1, 1), (0, 1)
WIDTH = 3
STARTS, ENDS = torch.tensor([[1, 4]]), torch.tensor([[3, 4]])
MORPHS = torch.tensor([[Morph.LOWER, Morph.UPPER]])
SPANS = enumerate_spans(MORPHS != Morph.PADDING, 2)


@pytest.fixture
def states() -> Tensor:
    return torch.randn(1, 6, WIDTH)


@pytest.fixture
def encoder() -> SpanEncoder:
    return SpanEncoder(WIDTH, max_span_width=2, length_size=5, morph_size=4)


@pytest.fixture
def bare(encoder: SpanEncoder) -> SpanEncoder:
    """Without the projection, so that the parts of eq. 8 can be seen: [h_i 3 ; h_j 3 ; length 5 ; morph 4]."""
    encoder.register_module("project", nn.Identity())
    return encoder


def test_a_span_begins_with_its_first_words_first_sub_token(bare: SpanEncoder, states: Tensor) -> None:
    first = bare(states, STARTS, ENDS, MORPHS, SPANS)[0, :, :3]
    assert torch.equal(first, states[0, [1, 4, 1]])


def test_a_span_ends_with_its_last_words_last_sub_token(bare: SpanEncoder, states: Tensor) -> None:
    last = bare(states, STARTS, ENDS, MORPHS, SPANS)[0, :, 3:6]
    assert torch.equal(last, states[0, [3, 4, 4]])


def test_the_length_embedding_counts_words(bare: SpanEncoder, states: Tensor) -> None:
    length = bare(states, STARTS, ENDS, MORPHS, SPANS)[0, :, 6:11]
    one, two = bare.length.weight
    assert torch.equal(length, torch.stack([one, one, two]))


def test_morph_embeddings_are_summed_over_the_words(bare: SpanEncoder, states: Tensor) -> None:
    morphs = bare(states, STARTS, ENDS, MORPHS, SPANS)[0, :, 11:]
    lower, upper = bare.morph.weight[Morph.LOWER], bare.morph.weight[Morph.UPPER]
    torch.testing.assert_close(morphs, torch.stack([lower, upper, lower + upper]))


def test_the_parts_are_projected_to_the_text_encoders_width(encoder: SpanEncoder, states: Tensor) -> None:
    """2d + 50 + 100 of the paper is 2 · 3 + 5 + 4 here."""
    assert encoder.project.in_features == 15
    represented = encoder(states, STARTS, ENDS, MORPHS, SPANS)
    weight, bias = encoder.project.weight, encoder.project.bias
    encoder.register_module("project", nn.Identity())
    torch.testing.assert_close(represented, encoder(states, STARTS, ENDS, MORPHS, SPANS) @ weight.T + bias)


def test_the_padding_morph_is_zero_and_stays_zero(encoder: SpanEncoder, states: Tensor) -> None:
    encoder(states, STARTS, ENDS, torch.tensor([[Morph.LOWER, Morph.PADDING]]), SPANS).sum().backward()
    assert encoder.morph.weight[Morph.PADDING].eq(0).all()
    assert encoder.morph.weight.grad is not None
    assert encoder.morph.weight.grad[Morph.PADDING].eq(0).all()
    assert encoder.morph.weight.grad[Morph.LOWER].ne(0).any()


def test_words_behind_a_span_do_not_count_for_its_morphs(bare: SpanEncoder) -> None:
    """Width 1 of 2: the second place of the window lies on the next word, or behind the last."""
    morphs = torch.tensor([[Morph.TITLE, Morph.DIGIT, Morph.OTHER]])
    places = torch.tensor([[1, 2, 3]])
    spans = Spans(torch.arange(3), torch.arange(3), torch.ones(1, 3, dtype=torch.bool))
    summed = bare(torch.zeros(1, 5, WIDTH), places, places, morphs, spans)[0, :, 11:]
    torch.testing.assert_close(summed, bare.morph(morphs[0]))
