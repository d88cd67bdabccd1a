"""Enumerates every span of a text up to a width, for a whole batch at once (section 3.4, eq. 8).

Notation: B posts, n words in the longest, W widest span, S = sum over widths w of (n − w + 1) spans;
R real spans, those that lie within a segment of their post.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Spans(NamedTuple):
    """The spans of a batch, ordered by width and then by first word.

    Attributes:
        starts, ends: first and last word of each span, (S,) int64, shared by all posts.
        mask: (B, S) bool, True where the span lies within a segment of the post.
        real: indices of the real spans in the flattened mask, (R,) int64, ascending. Only these are computed.
    """

    starts: Tensor
    ends: Tensor
    mask: Tensor
    real: Tensor

    def to(self, device: torch.device) -> "Spans":
        """Copy them to a device."""
        return Spans(*(tensor.to(device, non_blocking=True) for tensor in self))

    @property
    def posts(self) -> Tensor:
        """The post of each real span, (R,) int64."""
        return self.real // self.mask.shape[1]

    @property
    def indices(self) -> Tensor:
        """The index among the S spans of each real span, (R,) int64."""
        return self.real % self.mask.shape[1]

    def select(self, padded: Tensor) -> Tensor:
        """(B, S, …) → (R, …)."""
        return padded.flatten(0, 1).index_select(0, self.real)

    def place(self, selected: Tensor) -> Tensor:
        """(R, …) → (B, S, …), zero at padding spans."""
        empty = selected.new_zeros(self.mask.numel(), *selected.shape[1:])
        return empty.index_copy(0, self.real, selected).view(*self.mask.shape, *selected.shape[1:])


def enumerate_spans(segments: Tensor, max_width: int) -> Spans:
    """Enumerate all spans of at most ``max_width`` words; real ones lie within a segment.

    Args:
        segments: (B, n) int64, ascending: the number of each word's segment from 1, 0 for words that no span may have
            and after a post's words. A bool mask is a single segment.
    """
    words = segments.shape[1]
    widths = range(1, min(max_width, words) + 1)
    position = torch.arange(words, device=segments.device)
    starts = torch.cat([position[: words - width + 1] for width in widths])
    ends = torch.cat([position[width - 1 :] for width in widths])
    of_starts, of_ends = segments[:, starts], segments[:, ends]
    mask = (of_starts == of_ends) & (of_ends != 0)
    return Spans(starts, ends, mask, mask.flatten().nonzero()[:, 0])


def span_index(start: int, end: int, *, words: int, max_width: int) -> int | None:
    """Index of the span from word ``start`` to word ``end`` in a batch of ``words`` words; None if it is too wide."""
    width = end - start + 1
    if width > max_width:
        return None
    narrower = (width - 1) * words - (width - 1) * (width - 2) // 2  # spans of widths 1 .. width - 1
    return narrower + start
