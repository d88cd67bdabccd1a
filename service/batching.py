"""Which of the waiting posts run together."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar


class Budget(NamedTuple):
    """What one batch may cost: sub-tokens with padding, and photos."""

    tokens: int
    images: int

    def halved(self, least: "Budget") -> "Budget":
        """Half of it, but no less than ``least``."""
        return Budget(max(self.tokens // 2, least.tokens), max(self.images // 2, least.images))


class Waiting(Protocol):
    """What is asked of a waiting post: its sub-tokens, its photos (0 or 1) and whether it wants an explanation."""

    @property
    def tokens(self) -> int: ...
    @property
    def images(self) -> int: ...
    @property
    def explain(self) -> bool: ...


W = TypeVar("W", bound=Waiting)


def choose_batch(waiting: Sequence[W], budget: Budget) -> list[W]:
    """The post that has waited longest and those nearest to it in length, as many as the budget allows.

    The oldest always goes, so none waits for ever; similar lengths together waste the least on padding. Posts to be
    explained run apart, because the network then computes attention in another way.

    Args:
        waiting: at least one post, in order of arrival.
        budget: at least what any single post costs.
    """
    oldest = waiting[0]
    chosen: list[W] = []
    longest = images = 0
    for post in sorted(waiting, key=lambda post: abs(post.tokens - oldest.tokens)):  # stable: the oldest comes first
        fits = (
            post.explain == oldest.explain
            and max(longest, post.tokens) * (len(chosen) + 1) <= budget.tokens
            and images + post.images <= budget.images
        )
        if fits:
            chosen.append(post)
            longest = max(longest, post.tokens)
            images += post.images
    return chosen
