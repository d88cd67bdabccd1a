"""Entity-level precision, recall and F1, counted as conlleval does: an entity is right if its words and type are."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from training.data.posts import LabeledPost, TypedWords


class ScoredEntity(NamedTuple):
    """An entity and the probability that the model gives its type."""

    entity: TypedWords
    score: float


Predictions = list[tuple[TypedWords, ...]]  # of each post
ScoredPredictions = list[tuple[ScoredEntity, ...]]


def without_scores(predicted: ScoredPredictions) -> Predictions:
    """The entities alone."""
    return [tuple(found.entity for found in own) for own in predicted]


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro-averaged scores as fractions; ``support`` is the number of gold entities."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def count(cls, correct: int, predicted: int, gold: int) -> "Scores":
        """Compute scores from counts; a score whose denominator is 0 is 0."""
        precision = correct / predicted if predicted else 0.0
        recall = correct / gold if gold else 0.0
        f1 = 2 * correct / (predicted + gold) if predicted + gold else 0.0
        return cls(precision, recall, f1, gold)


def score(posts: Sequence[LabeledPost], predicted: Predictions) -> Scores:
    """Score all entities."""
    return _scores_by(posts, predicted, lambda _: None).get(None, _NO_ENTITY)


def score_by_type(posts: Sequence[LabeledPost], predicted: Predictions, types: Iterable[str]) -> dict[str, Scores]:
    """Score the entities of each type."""
    by_type = _scores_by(posts, predicted, lambda found: found.entity.type)
    return {kind: by_type.get(kind, _NO_ENTITY) for kind in types}


def score_by_mention(
    posts: Sequence[LabeledPost], predicted: Predictions, seen: frozenset[str]
) -> tuple[Scores, Scores]:
    """Score the entities, gold and predicted, whose mention is in ``seen``, and those whose mention is not."""
    by_seen = _scores_by(posts, predicted, lambda found: found.mention in seen)
    return by_seen.get(True, _NO_ENTITY), by_seen.get(False, _NO_ENTITY)


def score_by_width(posts: Sequence[LabeledPost], predicted: Predictions) -> dict[int, Scores]:
    """Score the entities, gold and predicted, of each width in words, the narrowest first."""
    return dict(sorted(_scores_by(posts, predicted, lambda found: found.entity.end - found.entity.start + 1).items()))


def mentions(posts: Iterable[LabeledPost]) -> frozenset[str]:
    """The mentions tagged in ``posts``, in lower case."""
    return frozenset(post.mention(entity) for post in posts for entity in post.entities or ())


class _Located(NamedTuple):
    """An entity with the index of its post, since the same words may be an entity in several posts."""

    post: int
    entity: TypedWords
    mention: str


_NO_ENTITY = Scores.count(0, 0, 0)
Key = TypeVar("Key")


def _scores_by(
    posts: Sequence[LabeledPost], predicted: Predictions, key: Callable[[_Located], Key]
) -> dict[Key, Scores]:
    """Score the entities, gold and predicted, that share a value of ``key``."""
    gold, found = _located(posts, [post.entities or () for post in posts]), _located(posts, predicted)
    correct, guessed, tagged = (Counter(map(key, entities)) for entities in (gold & found, found, gold))
    return {value: Scores.count(correct[value], guessed[value], tagged[value]) for value in guessed | tagged}


def _located(posts: Sequence[LabeledPost], entities: Sequence[Iterable[TypedWords]]) -> set[_Located]:
    return {
        _Located(i, entity, post.mention(entity))
        for i, (post, own) in enumerate(zip(posts, entities, strict=True))
        for entity in own
    }
