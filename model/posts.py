"""Posts that are ready for the network, and how their windows share its passes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from model.preprocessing.tokenized_text import TokenizedText

_PASS_TOKENS = 4096  # of the windows of long posts in one pass, padding included


@dataclass(frozen=True, slots=True)
class Post:
    """A post ready for the network; without an image, ``pixels`` and ``image_features`` are both None.

    Attributes:
        source: the original text.
        windows: its words and sub-tokens; several windows if it is longer than the text encoder reads at once.
        pixels: the decoded image, (3, size, size) uint8.
        image_features: the encoded image, (1 + m, C) float; takes precedence over ``pixels``.
    """

    source: str
    windows: Sequence[TokenizedText]
    pixels: Tensor | None = None
    image_features: Tensor | None = None

    @property
    def has_image(self) -> bool:
        """Whether the post has an image, decoded or encoded."""
        return self.pixels is not None or self.image_features is not None

    @property
    def tokens(self) -> int:
        """Sub-tokens of the longest window, special ones included."""
        return max(len(window.input_ids) for window in self.windows)


class Row(NamedTuple):
    """A row of a batch: the index of a post, and one of its windows with its number."""

    post: int
    number: int
    window: TokenizedText

    @property
    def tokens(self) -> int:
        """Sub-tokens, special ones included."""
        return len(self.window.input_ids)


def plan_passes(posts: Sequence[Post]) -> list[list[Row]]:
    """The rows of each pass: all windows that may have entities in one, in order, unless a post has many windows.

    Then they are sorted by length, so that little is padding, and each pass has a bounded number of sub-tokens.
    """
    rows = [
        Row(index, number, window)
        for index, post in enumerate(posts)
        for number, window in enumerate(post.windows)
        if window.may_have_entities
    ]
    if len(rows) <= len(posts):
        return [rows] if rows else []
    return list(_bounded(sorted(rows, key=lambda row: row.tokens)))


def _bounded(rows: Sequence[Row]) -> Iterator[list[Row]]:
    chosen: list[Row] = []
    for row in rows:
        if chosen and (len(chosen) + 1) * row.tokens > _PASS_TOKENS:
            yield chosen
            chosen = []
        chosen.append(row)
    yield chosen
