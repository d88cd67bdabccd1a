"""Which of the waiting posts run together."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar


class Budget(NamedTuple):
    """What one batch may cost: sub-tokens with padding, photos, and sub-tokens of padding for each real one, or any."""

    tokens: int
    images: int
    padding: float | None = None

    def halved(self, *, least_tokens: int) -> "Budget":
        """Half of it, but no less than one photo and ``least_tokens``."""
        return self._replace(tokens=max(self.tokens // 2, least_tokens), images=max(self.images // 2, 1))


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
    longest = tokens = images = 0
    for post in sorted(waiting, key=lambda post: abs(post.tokens - oldest.tokens)):  # stable: the oldest comes first
        padded = max(longest, post.tokens) * (len(chosen) + 1)
        real = tokens + post.tokens
        fits = (
            post.explain == oldest.explain
            and padded <= budget.tokens
            and (budget.padding is None or padded - real <= budget.padding * real)
            and images + post.images <= budget.images
        )
        if fits:
            chosen.append(post)
            longest = max(longest, post.tokens)
            tokens = real
            images += post.images
    return chosen
