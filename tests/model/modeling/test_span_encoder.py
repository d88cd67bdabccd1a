import pytest
import torch
from torch import Tensor, nn

from model.modeling.span_encoder import SpanEncoder
from model.modeling.spans import enumerate_spans
from model.morphs import Morph

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
    """Its identity projection exposes the parts of eq. 8: [h_i 3 ; h_j 3 ; length 5 ; morph 4]."""
    encoder.project = nn.Linear(15, 15)
    nn.init.eye_(encoder.project.weight)
    nn.init.zeros_(encoder.project.bias)
    return encoder


def test_span_starts_at_the_first_words_first_token(bare: SpanEncoder, states: Tensor) -> None:
    first = bare(states, STARTS, ENDS, MORPHS, SPANS)[:, :3]
    assert torch.equal(first, states[0, [1, 4, 1]])


def test_span_ends_at_the_last_words_last_token(bare: SpanEncoder, states: Tensor) -> None:
    last = bare(states, STARTS, ENDS, MORPHS, SPANS)[:, 3:6]
    assert torch.equal(last, states[0, [3, 4, 4]])


def test_the_length_embedding_counts_words(bare: SpanEncoder, states: Tensor) -> None:
    length = bare(states, STARTS, ENDS, MORPHS, SPANS)[:, 6:11]
    one, two = bare.length.weight
    assert torch.equal(length, torch.stack([one, one, two]))


def test_morph_embeddings_are_summed_over_the_words(bare: SpanEncoder, states: Tensor) -> None:
    morphs = bare(states, STARTS, ENDS, MORPHS, SPANS)[:, 11:]
    lower, upper = bare.morph.weight[Morph.LOWER], bare.morph.weight[Morph.UPPER]
    torch.testing.assert_close(morphs, torch.stack([lower, upper, lower + upper]))


def test_span_parts_are_projected_to_encoder_width(encoder: SpanEncoder, states: Tensor) -> None:
    """The paper's 2d + 50 + 100 is 2 · 3 + 5 + 4 here; the parts are concatenated, then projected."""
    first, last = states[0, [1, 4, 1]], states[0, [3, 4, 4]]
    length = encoder.length.weight[[0, 0, 1]]
    lower, upper = encoder.morph.weight[Morph.LOWER], encoder.morph.weight[Morph.UPPER]
    parts = torch.cat([first, last, length, torch.stack([lower, upper, lower + upper])], -1)
    assert encoder.project.in_features == 15
    torch.testing.assert_close(encoder(states, STARTS, ENDS, MORPHS, SPANS), encoder.project(parts))


def test_the_padding_morph_is_zero_and_stays_zero(encoder: SpanEncoder, states: Tensor) -> None:
    morphs = torch.tensor([[Morph.LOWER, Morph.PADDING]])
    encoder(states, STARTS, ENDS, morphs, enumerate_spans(morphs != Morph.PADDING, 2)).sum().backward()
    assert encoder.morph.weight[Morph.PADDING].eq(0).all()
    assert encoder.morph.weight.grad is not None
    assert encoder.morph.weight.grad[Morph.PADDING].eq(0).all()
    assert encoder.morph.weight.grad[Morph.LOWER].ne(0).any()


def test_morphs_count_only_words_inside_the_span(bare: SpanEncoder) -> None:
    morphs = torch.tensor([[Morph.TITLE, Morph.DIGIT, Morph.OTHER]])
    places = torch.tensor([[1, 2, 3]])
    spans = enumerate_spans(morphs != Morph.PADDING, 1)
    summed = bare(torch.zeros(1, 5, WIDTH), places, places, morphs, spans)[:, 11:]
    torch.testing.assert_close(summed, bare.morph(morphs[0]))


def test_span_states_do_not_depend_on_padding(encoder: SpanEncoder) -> None:
    """Two posts of one and two words: in one batch their spans are (0, 0) of each, (1, 1) and (0, 1) of the second."""
    states = torch.randn(2, 6, WIDTH)
    starts, ends = torch.tensor([[1, 0], [1, 4]]), torch.tensor([[2, 0], [3, 4]])
    morphs = torch.tensor([[Morph.TITLE, Morph.PADDING], [Morph.LOWER, Morph.UPPER]])
    together = encoder(states, starts, ends, morphs, enumerate_spans(morphs != Morph.PADDING, 2))
    alone = encoder(states[1:], starts[1:], ends[1:], morphs[1:], SPANS)
    short = encoder(states[:1], starts[:1, :1], ends[:1, :1], morphs[:1, :1], enumerate_spans(morphs[:1, :1] != 0, 2))
    torch.testing.assert_close(together, torch.cat([short, alone]))


@pytest.mark.parametrize("widest", [1, 3, 9])
def test_what_is_largest_over_the_words_is_added(widest: int) -> None:
    """Two posts of five and three words, each word one sub-token, against a loop over the spans."""
    torch.manual_seed(0)
    states, words = torch.randn(2, 5, WIDTH), torch.arange(5).expand(2, -1)
    morphs = torch.full((2, 5), Morph.LOWER)
    morphs[1, 3:] = Morph.PADDING
    spans = enumerate_spans(morphs != Morph.PADDING, widest)
    encoder = SpanEncoder(WIDTH, max_span_width=widest, length_size=5, morph_size=4, max_pooling=True)
    assert encoder.pool is not None
    pooled = encoder(states, words, words, morphs, spans)
    project, encoder.pool = encoder.pool, None
    added = pooled - encoder(states, words, words, morphs, spans)
    expected = [
        project(states[post, spans.starts[index] : spans.ends[index] + 1].amax(0))
        for post, index in zip(spans.posts, spans.indices, strict=True)
    ]
    torch.testing.assert_close(added, torch.stack(expected))
