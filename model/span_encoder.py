"""Span representations s_t (section 3.4, eq. 8).

Notation: B posts, T sub-tokens, n words, S spans, W widest span, d width of the text encoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.morphology import Morph
from model.spans import Spans


class SpanEncoder(nn.Module):
    """[h_i ; h_j ; length ; morph] projected to d: first sub-token of the first word, last of the last."""

    def __init__(self, width: int, *, max_span_width: int, length_size: int, morph_size: int) -> None:
        super().__init__()
        self.max_span_width = max_span_width
        self.length = nn.Embedding(max_span_width, length_size)
        self.morph = nn.Embedding(len(Morph), morph_size, padding_idx=Morph.PADDING)
        self.project = nn.Linear(2 * width + length_size + morph_size, width)

    def forward(self, states: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor, spans: Spans) -> Tensor:
        """Represent every span.

        Args:
            states: (B, T, d) float, the text encoder's last hidden states.
            word_starts, word_ends: (B, n) int64, first and last sub-token of each word.
            morphs: (B, n) int64, :class:`Morph` of each word.
            spans: the spans of the batch.

        Returns:
            s_t: (B, S, d) float.
        """
        first = _take(states, word_starts[:, spans.starts])  # (B, S, d)
        last = _take(states, word_ends[:, spans.ends])  # (B, S, d)
        length = self.length(spans.ends - spans.starts).expand(len(states), -1, -1)  # (B, S, 50)
        represented: Tensor = self.project(torch.cat([first, last, length, self._morphs(morphs, spans)], -1))
        return represented

    def _morphs(self, morphs: Tensor, spans: Spans) -> Tensor:
        """Morph embeddings summed over the words of each span: (B, S, 100)."""
        offsets = torch.arange(self.max_span_width, device=morphs.device)  # (W,)
        positions = spans.starts[:, None] + offsets  # (S, W)
        padded = F.pad(morphs, (0, self.max_span_width - 1), value=Morph.PADDING)
        windows = padded[:, positions].masked_fill(positions > spans.ends[:, None], Morph.PADDING)  # (B, S, W)
        summed: Tensor = self.morph(windows).sum(2)
        return summed


def _take(states: Tensor, index: Tensor) -> Tensor:
    """Rows of ``states`` (B, T, d) at ``index`` (B, S): (B, S, d)."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))
