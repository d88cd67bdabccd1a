"""Running a model over a dataset."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import SMNER
from model.decoding import decode
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, Example, PostDataset
from training.data.posts import TypedWords
from training.scoring.scores import Predictions, ScoredEntity, ScoredPredictions, without_scores

Answer = TypeVar("Answer")


def predict(
    model: SMNER, dataset: PostDataset, collator: Collator, *, batch_size: int = 32, progress: bool = False
) -> Predictions:
    """Find the entities in each post, in the order of the dataset."""
    return without_scores(predict_scored(model, dataset, collator, batch_size=batch_size, progress=progress))


def predict_scored(
    model: SMNER, dataset: PostDataset, collator: Collator, *, batch_size: int = 32, progress: bool = False
) -> ScoredPredictions:
    """Find the entities in each post with their scores, in the order of the dataset."""
    return run_model(model, dataset, collator.inputs, _read_spans, batch_size=batch_size, progress=progress)


def _read_spans(model: SMNER, batch: Batch) -> ScoredPredictions:
    output, label = model(**batch), model.config.label
    found = decode(output.logits, output.spans, temperature=model.config.score_temperature)
    return [tuple(ScoredEntity(TypedWords(s.start, s.end, label(s.label)), s.score) for s in own) for own in found]


@torch.inference_mode()
def run_model(
    model: nn.Module,
    dataset: PostDataset,
    collate: Callable[[Sequence[Example]], Batch],
    read: Callable[[Any, Batch], list[Answer]],
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> list[Answer]:
    """Batch the posts by length and return, in the order of the dataset, what ``read`` makes of model and batch."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    by_length = sorted(range(len(dataset)), key=dataset.length)
    loader = DataLoader(dataset, batch_size=batch_size, sampler=by_length, collate_fn=collate)
    answers: dict[int, Answer] = {}
    order = iter(by_length)
    for batch in tqdm(loader, desc="evaluating", unit="batch", disable=not progress, leave=False):
        for answer in read(model, {key: tensor.to(device) for key, tensor in batch.items()}):
            answers[next(order)] = answer
    model.train(training)
    return [answers[index] for index in range(len(dataset))]
