"""How far the scores can be taken for probabilities: clients keep what is above a threshold of theirs."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.posts import LabelledPost
from training.scoring.evaluation import ScoredPredictions

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """The predicted entities whose score lies in (``low``, ``high``].

    ``score`` is their mean score, ``accuracy`` the share of them that is right, ``count`` how many there are.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error as a fraction, None where nothing was predicted, and the bins that are not empty."""

    ece: float | None
    bins: list[Bin]


def calibration(posts: Sequence[LabelledPost], predicted: ScoredPredictions, *, bins: int = BINS) -> Calibration:
    """Compare the scores of predicted entities with how often such entities are right, span and type.

    The error is the mean of the bins' distances between accuracy and mean score, weighted by their counts, over bins of
    equal width (Guo et al. 2017, eq. 3). Entities that were missed have no score and play no part.
    """
    edges = [i / bins for i in range(bins + 1)]
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for post, own in zip(posts, predicted, strict=True):
        for entity, score in own:
            found[bisect_left(edges, score, 1) - 1].append((score, entity in (post.entities or ())))
    filled = [
        Bin(low, high, len(inside), sum(s for s, _ in inside) / len(inside), sum(c for _, c in inside) / len(inside))
        for low, high, inside in zip(edges, edges[1:], found, strict=False)
        if inside
    ]
    total = sum(each.count for each in filled)
    ece = sum(each.count * abs(each.accuracy - each.score) for each in filled) / total if total else None
    return Calibration(ece, filled)
