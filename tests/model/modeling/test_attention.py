import pytest
import torch
from torch import Tensor, nn

from model.modeling.attention import CrossModalAttention
from model.modeling.spans import Spans, enumerate_spans

WIDTH, HEADS, WORDS, KEYS = 12, 3, 5, 4
SPANS = enumerate_spans(torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), 1)  # of one word each: 5 and 3
MASK = torch.tensor([[True, True, True, True], [True, False, True, False]])


@pytest.fixture
def attention() -> CrossModalAttention:
    return CrossModalAttention(WIDTH, heads=HEADS)


@pytest.fixture
def states() -> Tensor:
    """Real span states."""
    return torch.randn(WORDS + 3, WIDTH)


def one_span() -> Spans:
    return enumerate_spans(torch.ones(1, 1, dtype=torch.bool), 1)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, KEYS, WIDTH)


def torch_attention(attention: CrossModalAttention) -> nn.MultiheadAttention:
    """PyTorch's own, with the same weights."""
    reference = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
    with torch.no_grad():
        projections = [attention.query.weight, attention.key.weight, attention.value.weight]
        reference.in_proj_weight.copy_(torch.cat(projections))
        reference.out_proj.weight.copy_(attention.output.weight)
    return reference


@pytest.mark.parametrize("output_weights", [True, False])
def test_attention_equals_pytorchs_multi_head_attention(
    attention: CrossModalAttention, states: Tensor, image: Tensor, output_weights: bool
) -> None:
    attended, _ = torch_attention(attention)(SPANS.place(states), image, image, key_padding_mask=~MASK)
    hidden = attention.attention_norm(states + SPANS.select(attended))
    expected = attention.feed_forward_norm(hidden + attention.feed_forward(hidden))
    result = attention(states, image, MASK, SPANS, output_weights=output_weights)
    torch.testing.assert_close(result.states, expected)


def test_weights_are_those_of_pytorch(attention: CrossModalAttention, states: Tensor, image: Tensor) -> None:
    _, expected = torch_attention(attention)(
        SPANS.place(states), image, image, key_padding_mask=~MASK, average_attn_weights=False
    )
    weights = attention(states, image, MASK, SPANS, output_weights=True).weights
    assert weights.shape == (2, HEADS, WORDS, KEYS)
    torch.testing.assert_close(weights, expected)


def test_weights_sum_to_one_and_skip_masked_keys(attention: CrossModalAttention, states: Tensor, image: Tensor) -> None:
    weights = attention(states, image, MASK, SPANS, output_weights=True).weights
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, WORDS))
    assert weights[1, :, :, [1, 3]].eq(0).all()
    assert weights[1, :, :, [0, 2]].gt(0).all()


@pytest.mark.parametrize("output_weights", [True, False])
def test_content_of_masked_keys_is_ignored(
    attention: CrossModalAttention, states: Tensor, image: Tensor, output_weights: bool
) -> None:
    other = image.clone()
    other[1, [1, 3]] = 100.0
    before = attention(states, image, MASK, SPANS, output_weights=output_weights).states
    after = attention(states, other, MASK, SPANS, output_weights=output_weights).states
    torch.testing.assert_close(before, after)


def test_weights_are_returned_only_when_asked_for(
    attention: CrossModalAttention, states: Tensor, image: Tensor
) -> None:
    assert attention(states, image, MASK, SPANS).weights is None


def test_attention_scores_are_scaled_by_head_width() -> None:
    """d = 4, one head, identities: q · k / √4 is 4 / 2 and 0 / 2, weights σ(2) and 1 − σ(2)."""
    attention = CrossModalAttention(4, heads=1)
    for projection in (attention.query, attention.key):
        nn.init.eye_(projection.weight)
    span, keys = torch.tensor([[4.0, 0, 0, 0]]), torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0]]])
    weights = attention(span, keys, torch.ones(1, 2, dtype=torch.bool), one_span(), output_weights=True).weights
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor([0.880797, 0.119203]))


def test_residuals_and_norms_by_hand() -> None:
    """Eq. 12, d = 2. The span is (1, 3), the attended state (0, 0), the feed-forward output always (4, 0).

    LN((1, 3) + (0, 0)) = (−1, 1); LN((−1, 1) + (4, 0)) = LN((3, 1)) = (1, −1).
    """
    attention = CrossModalAttention(2, heads=1)
    nn.init.zeros_(attention.output.weight)
    last = attention.feed_forward[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([4.0, 0.0])
    result = attention(torch.tensor([[1.0, 3.0]]), torch.randn(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), one_span())
    torch.testing.assert_close(result.states, torch.tensor([[1.0, -1.0]]), atol=1e-4, rtol=0)


def test_feed_forward_is_four_times_as_wide(attention: CrossModalAttention) -> None:
    widen, activation, narrow = attention.feed_forward
    assert isinstance(activation, nn.ReLU)
    assert widen.weight.shape == (4 * WIDTH, WIDTH)
    assert narrow.weight.shape == (WIDTH, 4 * WIDTH)


def test_projections_have_no_bias(attention: CrossModalAttention) -> None:
    projections = (attention.query, attention.key, attention.value, attention.output)
    assert all(projection.bias is None for projection in projections)
