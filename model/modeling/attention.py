"""The cross-modal attention CMA (section 3.4, eq. 9-12): every span attends to the image's regions.

Notation: B posts, S spans, R real spans, K keys (z_v and the regions), h heads, d width.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from model.modeling.spans import Spans


class Attended(NamedTuple):
    """``states``: s_tv, (R, d) float; ``weights``: α, (B, h, S, K) float when asked for, else None."""

    states: Tensor
    weights: Tensor | None


class CrossModalAttention(nn.Module):
    """Multi-head attention from spans to the image, then a feed-forward layer; residual and layer norm after each."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(
        self, span_states: Tensor, image: Tensor, image_mask: Tensor, spans: Spans, *, output_weights: bool = False
    ) -> Attended:
        """Let every real span attend to the image of its post.

        Args:
            span_states: s_t, (R, d) float.
            image: m_v = [z_v ; h_v^o], (B, K, d) float.
            image_mask: (B, K) bool, True where a key is real; at least one in each row.
            spans: the spans of the batch.
            output_weights: whether to return α; rows of padding spans are meaningless.
        """
        query = self._split(spans.place(self.query(span_states)))  # (B, h, S, d/h)
        key, value = self._split(self.key(image)), self._split(self.value(image))  # (B, h, K, d/h)
        mask = image_mask[:, None, None]  # (B, 1, 1, K)
        weights = None
        if output_weights:
            scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5  # (B, h, S, K)
            weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)  # eq. 9
            context = weights @ value  # eq. 10, (B, h, S, d/h)
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = self.output(spans.select(context.transpose(1, 2).flatten(2)))  # eq. 11, (R, d)
        hidden = self.attention_norm(span_states + attended)  # eq. 12
        return Attended(self.feed_forward_norm(hidden + self.feed_forward(hidden)), weights)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, d) → (B, h, L, d/h)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
