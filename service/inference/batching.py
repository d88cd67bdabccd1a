"""Chooses which of the waiting posts run together."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar


class Budget(NamedTuple):
    """What one batch may cost: sub-tokens with padding, images to encode, and sub-tokens of padding per real one."""

    tokens: int
    images: int
    padding: float | None = None  # no limit

    def halved(self, *, min_tokens: int) -> "Budget":
        """Half of it, but at least one image and ``min_tokens``."""
        return self._replace(tokens=max(self.tokens // 2, min_tokens), images=max(self.images // 2, 1))


class Batchable(Protocol):
    """A waiting post: the sub-tokens of its longest window, its windows, images to encode (0 or 1) and explanation."""

    @property
    def tokens(self) -> int: ...
    @property
    def windows(self) -> int: ...
    @property
    def images(self) -> int: ...
    @property
    def explain(self) -> bool: ...


B = TypeVar("B", bound=Batchable)


def choose_batch(waiting: Sequence[B], budget: Budget) -> list[B]:
    """Choose the oldest post and those nearest to it in length, as many as the budget allows.

    The oldest always runs, so none starves, even if its windows alone exceed the budget; posts of similar length waste
    little on padding. Posts to be explained run separately, because the network then computes attention differently.

    Args:
        waiting: at least one post, in order of arrival.
        budget: at least what any single window with an image costs.
    """
    oldest = waiting[0]
    chosen: list[B] = []
    longest = windows = tokens = images = 0
    for post in sorted(waiting, key=lambda post: abs(post.tokens - oldest.tokens)):  # stable: the oldest comes first
        padded = max(longest, post.tokens) * (windows + post.windows)
        real = tokens + post.tokens * post.windows
        fits = post is oldest or (
            post.explain == oldest.explain
            and padded <= budget.tokens
            and (budget.padding is None or padded - real <= budget.padding * real)
            and images + post.images <= budget.images
        )
        if fits:
            chosen.append(post)
            longest = max(longest, post.tokens)
            windows += post.windows
            tokens = real
            images += post.images
    return chosen
