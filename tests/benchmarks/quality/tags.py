"""From scores of tags to a tagged post: each word by itself, or a linear-chain CRF over all words.

No maintained CRF library works with today's torch (pytorch-crf was last released in 2019).

Notation: B posts, n words of the longest post, K tags.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TagModel(nn.Module, ABC):
    """A distribution over the tags of a post, given scores (B, n, K) float.

    ``mask`` is (B, n) bool, True on real words; the first word of every post is real.
    """

    @abstractmethod
    def loss(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of ``tags`` (B, n) int64, per real word, in nats."""

    @abstractmethod
    def log_marginals(self, scores: Tensor, mask: Tensor) -> Tensor:
        """log p(tag of the word) for every word and tag, (B, n, K); meaningless on padding."""

    @abstractmethod
    def best(self, scores: Tensor, mask: Tensor) -> list[list[int]]:
        """The most probable tags of each post's real words."""


class IndependentTags(TagModel):
    """A softmax for each word."""

    def loss(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        return F.cross_entropy(scores[mask].float(), tags[mask])

    def log_marginals(self, scores: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - a chain needs it
        return scores.float().log_softmax(-1)

    def best(self, scores: Tensor, mask: Tensor) -> list[list[int]]:
        return [own[real].tolist() for own, real in zip(scores.argmax(-1), mask, strict=True)]


class LinearChainCRF(TagModel):
    """Scores each pair of neighboring tags, and the first and the last tag (Lafferty et al. 2001).

    Starts at zero, where it equals :class:`IndependentTags`.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(tags))
        self.last = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # from the row's tag to the column's

    def loss(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        likelihood = self.score(scores, tags, mask) - self.log_partition(scores, mask)
        return -likelihood.sum() / mask.sum()

    def score(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Unnormalized log-probability of a tagging, (B,)."""
        tags = tags.masked_fill(~mask, 0)
        emitted = scores.float().gather(2, tags[..., None])[..., 0] * mask  # (B, n)
        moved = self.transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]  # (B, n - 1)
        end = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        return emitted.sum(1) + moved.sum(1) + self.first[tags[:, 0]] + self.last[end]

    def log_partition(self, scores: Tensor, mask: Tensor) -> Tensor:
        """log of the sum over all taggings, (B,), by the forward algorithm."""
        return (self._forward(scores, mask)[:, -1] + self.last).logsumexp(-1)

    def log_marginals(self, scores: Tensor, mask: Tensor) -> Tensor:
        """By the forward-backward algorithm."""
        both = self._forward(scores, mask) + self._backward(scores, mask)
        return both - both.logsumexp(-1, keepdim=True)

    def _forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """α: log of the sum over all beginnings that end in a word and tag, (B, n, K); repeated on padding."""
        scores = scores.float()
        alpha = [self.first + scores[:, 0]]
        for position in range(1, scores.shape[1]):
            step = (alpha[-1][:, :, None] + self.transitions).logsumexp(1) + scores[:, position]
            alpha.append(torch.where(mask[:, position, None], step, alpha[-1]))
        return torch.stack(alpha, 1)

    def _backward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """β: log of the sum over all endings that follow a word and tag, (B, n, K)."""
        scores = scores.float()
        end = self.last.expand(len(scores), -1)
        beta = [end]
        for position in range(scores.shape[1] - 1, 0, -1):
            step = (self.transitions + (beta[-1] + scores[:, position])[:, None]).logsumexp(2)
            beta.append(torch.where(mask[:, position, None], step, end))
        return torch.stack(beta[::-1], 1)

    def best(self, scores: Tensor, mask: Tensor) -> list[list[int]]:
        """Viterbi's algorithm."""
        scores = scores.float()
        total = self.first + scores[:, 0]
        came_from = []
        for position in range(1, scores.shape[1]):
            best, previous = (total[:, :, None] + self.transitions).max(1)
            real = mask[:, position, None]
            total = torch.where(real, best + scores[:, position], total)
            came_from.append(torch.where(real, previous, torch.arange(len(self.first), device=real.device)))
        path = [(total + self.last).argmax(-1)]
        for previous in reversed(came_from):
            path.append(previous.gather(1, path[-1][:, None])[:, 0])
        tags = torch.stack(path[::-1], 1)  # repeats the last tag on padding
        return [own[real].tolist() for own, real in zip(tags, mask, strict=True)]
