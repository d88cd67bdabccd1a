"""How well scores can be taken for probabilities, which matters to clients that filter by a threshold."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.posts import LabeledPost
from training.scoring.scores import ScoredPredictions


@dataclass(frozen=True, slots=True)
class Bin:
    """The predicted entities whose score lies in (``low``, ``high``].

    ``count`` is their number, ``score`` their mean score and ``accuracy`` the fraction of them that is right.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error as a fraction, None if nothing was predicted, and the nonempty bins."""

    ece: float | None
    bins: list[Bin]


def calibration(posts: Sequence[LabeledPost], predicted: ScoredPredictions, *, bins: int = 10) -> Calibration:
    """Compare the scores of predicted entities with how often such entities are right in words and type.

    The error is the mean distance between accuracy and mean score over bins of equal width, weighted by their counts
    (Guo et al. 2017, eq. 3). Missed entities have no score and do not count.
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
