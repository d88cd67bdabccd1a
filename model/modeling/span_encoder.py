"""Span representations s_t (section 3.4, eq. 8).

Notation: B posts, T sub-tokens, n words, R real spans, W widest span, d width of the text encoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.modeling.spans import Spans
from model.morphs import Morph


class SpanEncoder(nn.Module):
    """Represents a span as [h_i ; h_j ; length ; morph], projected to d.

    h_i is the state of the first word's first sub-token, h_j that of the last word's last. The paper uses these two
    ends alone. ``max_pooling`` adds a projection of the element-wise maximum over the first sub-tokens of all
    its words, so that the words between the ends contribute directly.
    """

    def __init__(
        self, width: int, *, max_span_width: int, length_size: int, morph_size: int, max_pooling: bool = False
    ) -> None:
        super().__init__()
        self.max_span_width = max_span_width
        self.length = nn.Embedding(max_span_width, length_size)
        self.morph = nn.Embedding(len(Morph), morph_size, padding_idx=Morph.PADDING)
        self.project = nn.Linear(2 * width + length_size + morph_size, width)
        self.pool = nn.Linear(width, width) if max_pooling else None

    def forward(self, states: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor, spans: Spans) -> Tensor:
        """Represent every real span.

        A linear map of a concatenation is the sum of a map of each part. The maps of words, lengths and morphs are
        computed once for all spans that share them.

        Args:
            states: (B, T, d) float, the text encoder's last hidden states.
            word_starts, word_ends: (B, n) int64, first and last sub-token of each word.
            morphs: (B, n) int64, :class:`Morph` of each word.
            spans: the spans of the batch, R of them real.

        Returns:
            s_t: (R, d) float.
        """
        parts = [states.shape[-1], states.shape[-1], self.length.embedding_dim, self.morph.embedding_dim]
        of_first, of_last, of_length, of_morph = torch.split(self.project.weight, parts, 1)
        firsts = F.linear(_take(states, word_starts), of_first)  # (B, n, d)
        lasts = F.linear(_take(states, word_ends), of_last)  # (B, n, d)
        lengths = F.linear(self.length.weight, of_length, self.project.bias)  # (W, d)
        kinds = F.linear(self.morph.weight, of_morph)  # (morphs, d)

        posts, starts, ends = spans.posts, spans.starts[spans.indices], spans.ends[spans.indices]
        before = posts * word_starts.shape[1]  # (R,), words of the earlier posts
        represented: Tensor = firsts.flatten(0, 1).index_select(0, before + starts)  # (R, d)
        represented = represented + lasts.flatten(0, 1).index_select(0, before + ends)
        represented = represented + lengths.index_select(0, ends - starts)
        if self.pool is not None:
            largest = _largest(_take(states, word_starts), self.max_span_width)  # (B, S, d)
            represented = represented + self.pool(spans.select(largest))
        return represented + _counts(morphs, posts, starts, ends).to(kinds.dtype) @ kinds


def _counts(morphs: Tensor, posts: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Count the words of each morph in each span: (R, morphs) int64."""
    up_to = F.pad(F.one_hot(morphs, len(Morph)).cumsum(1), (0, 0, 1, 0))  # (B, 1 + n, morphs)
    return up_to[posts, ends + 1] - up_to[posts, starts]


def _largest(words: Tensor, widest: int) -> Tensor:
    """Element-wise maximum over the words (B, n, d) of each span: (B, S, d) in the order of ``enumerate_spans``."""
    found = [words]
    for width in range(2, min(widest, words.shape[1]) + 1):
        found.append(torch.maximum(found[-1][:, :-1], words[:, width - 1 :]))
    return torch.cat(found, 1)


def _take(states: Tensor, index: Tensor) -> Tensor:
    """Rows of ``states`` (B, T, d) at ``index`` (B, n): (B, n, d)."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))
