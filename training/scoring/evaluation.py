"""Entity-level precision, recall and F1, as conlleval counts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import SMNER
from model.decoding import decode
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost, TypedWords

Predictions = list[tuple[TypedWords, ...]]
Answer = TypeVar("Answer")


class ScoredEntity(NamedTuple):
    """An entity and the probability that the model gives its type."""

    entity: TypedWords
    score: float


ScoredPredictions = list[tuple[ScoredEntity, ...]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro-averaged scores as fractions; ``support`` is the number of gold entities."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def count(cls, correct: int, predicted: int, gold: int) -> "Scores":
        """From counts; a score without a denominator is 0."""
        precision = correct / predicted if predicted else 0.0
        recall = correct / gold if gold else 0.0
        f1 = 2 * correct / (predicted + gold) if predicted + gold else 0.0
        return cls(precision, recall, f1, gold)


def predict(
    model: SMNER, dataset: PostDataset, collator: Collator, *, batch_size: int = 32, progress: bool = False
) -> Predictions:
    """The entities that the model finds in each post, in the order of the dataset."""
    return without_scores(predict_scored(model, dataset, collator, batch_size=batch_size, progress=progress))


def without_scores(predicted: ScoredPredictions) -> Predictions:
    """The entities alone."""
    return [tuple(found.entity for found in own) for own in predicted]


def predict_scored(
    model: SMNER, dataset: PostDataset, collator: Collator, *, batch_size: int = 32, progress: bool = False
) -> ScoredPredictions:
    """The entities that the model finds in each post with their scores, in the order of the dataset."""
    return ask(model, dataset, collator, _read_spans, batch_size=batch_size, progress=progress)


def _read_spans(model: SMNER, batch: Batch) -> ScoredPredictions:
    output = model(**batch)
    return [
        tuple(
            ScoredEntity(TypedWords(span.start, span.end, model.config.label(span.label)), span.score) for span in spans
        )
        for spans in decode(output.logits, output.spans, temperature=model.config.score_temperature)
    ]


@torch.no_grad()  # FSDP cannot work with tensors of inference mode
def ask(
    model: nn.Module,
    dataset: PostDataset,
    collator: Collator,
    read: Callable[[Any, Batch], list[Answer]],
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> list[Answer]:
    """What ``read`` makes of the model and a batch, for each post in the order of the dataset."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    by_length = sorted(range(len(dataset)), key=dataset.length)
    loader = DataLoader(dataset, batch_size=batch_size, sampler=by_length, collate_fn=collator.inputs)
    answers: dict[int, Answer] = {}
    order = iter(by_length)
    for batch in tqdm(loader, desc="evaluating", unit="batch", disable=not progress, leave=False):
        for answer in read(model, {key: tensor.to(device) for key, tensor in batch.items()}):
            answers[next(order)] = answer
    model.train(training)
    return [answers[index] for index in range(len(dataset))]


def score(posts: Sequence[LabelledPost], predicted: Predictions) -> Scores:
    """Exact spans with the right type, over all posts."""
    return _scores(_flat(posts, [post.entities or () for post in posts]), _flat(posts, predicted))


def score_by_type(posts: Sequence[LabelledPost], predicted: Predictions, types: Iterable[str]) -> dict[str, Scores]:
    """Scores for each entity type."""
    gold, found = _flat(posts, [post.entities or () for post in posts]), _flat(posts, predicted)
    return {
        kind: _scores({x for x in gold if x.entity.type == kind}, {x for x in found if x.entity.type == kind})
        for kind in types
    }


def score_by_mention(
    posts: Sequence[LabelledPost], predicted: Predictions, seen: frozenset[str]
) -> tuple[Scores, Scores]:
    """Scores over the mentions that are in ``seen`` and over those that are not, gold and predicted alike."""
    gold, found = _flat(posts, [post.entities or () for post in posts]), _flat(posts, predicted)
    return (
        _scores({x for x in gold if x.mention in seen}, {x for x in found if x.mention in seen}),
        _scores({x for x in gold if x.mention not in seen}, {x for x in found if x.mention not in seen}),
    )


def score_by_width(posts: Sequence[LabelledPost], predicted: Predictions) -> dict[int, Scores]:
    """Scores over the entities of each width in words, gold and predicted alike, the narrowest first."""
    gold, found = _flat(posts, [post.entities or () for post in posts]), _flat(posts, predicted)
    return {
        width: _scores({x for x in gold if x.width == width}, {x for x in found if x.width == width})
        for width in sorted({x.width for x in gold | found})
    }


def mentions(posts: Iterable[LabelledPost]) -> frozenset[str]:
    """The mentions tagged in ``posts``, lower-cased."""
    return frozenset(post.mention(entity) for post in posts for entity in post.entities or ())


@dataclass(frozen=True, slots=True)
class _Located:
    post: int
    entity: TypedWords
    mention: str

    @property
    def width(self) -> int:
        return self.entity.end - self.entity.start + 1


def _flat(posts: Sequence[LabelledPost], entities: Sequence[Iterable[TypedWords]]) -> set[_Located]:
    return {
        _Located(i, entity, post.mention(entity))
        for i, (post, own) in enumerate(zip(posts, entities, strict=True))
        for entity in own
    }


def _scores(gold: set[_Located], found: set[_Located]) -> Scores:
    return Scores.count(len(gold & found), len(found), len(gold))
