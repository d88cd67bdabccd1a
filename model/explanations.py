"""What explains an entity: the scores of all types, and where its span looked in the image."""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from torch import Tensor

from model.decoding import Candidate
from model.entities import Attention

DECIMALS = 4  # of scores and weights; depending on the batch, the next ones vary


class Explanation(NamedTuple):
    """A candidate's logits, (1 + types,) float, and in a post with an image its attention, (1 + m,), over all heads."""

    logits: Tensor
    attention: Tensor | None

    def scores(self, types: Sequence[str], temperature: float) -> dict[str, float]:
        """The probability of each type."""
        probabilities = (self.logits.float() / temperature).softmax(-1)[1:].tolist()
        return {kind: round(score, DECIMALS) for kind, score in zip(types, probabilities, strict=True)}

    def regions(self) -> Attention | None:
        """The attention in a square grid."""
        if self.attention is None:
            return None
        side = round((len(self.attention) - 1) ** 0.5)
        regions = [[round(weight, DECIMALS) for weight in row] for row in self.attention[1:].view(side, side).tolist()]
        return Attention(round(float(self.attention[0]), DECIMALS), regions)


def explain_candidates(
    candidates: Sequence[Candidate], logits: Tensor, weights: Tensor | None
) -> dict[int, Explanation]:
    """Explanations by the index of the candidates' spans; those of all spans would take megabytes.

    Args:
        logits: (S, 1 + types) float.
        weights: α of eq. 9, (heads, S, 1 + m), in a post with an image.
    """
    indices = [candidate.span.index for candidate in candidates]
    means = repeat(None) if weights is None else weights[:, indices].mean(0)
    return {i: Explanation(*own) for i, own in zip(indices, zip(logits[indices], means, strict=False), strict=True)}
