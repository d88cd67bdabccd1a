"""The temperature at which the scores of entities match how often such entities are right."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model import SMNER
from model.decoding import decode
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, PostDataset
from training.scoring.prediction import run_model

_SEARCHED = torch.logspace(-2, 2, 401, base=2, dtype=torch.float64)  # 1/4 to 4 in steps of 0.7 %


def fit_temperature(model: SMNER, datasets: Sequence[PostDataset], collator: Collator) -> float:
    """Fit the temperature to the entities that the model finds in tagged posts.

    Only these have a score that clients see. Fitted to all spans, as usual for a classifier, the temperature would
    suit the easy "no entity" that nearly all of them are.
    """
    found = [own for dataset in datasets for own in run_model(model, dataset, collator, _read_entities)]
    logits, right = zip(*found, strict=True) if found else ((), ())
    return likeliest_temperature(torch.cat(logits), torch.cat(right)) if logits else 1.0


def _read_entities(model: SMNER, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """For each post, the logits of the entities found in it, (E, 1 + types), and which of them are right, (E,) bool."""
    gold = batch.pop("labels").cpu()
    output = model(**batch)
    found = []
    for logits, labels, spans in zip(output.logits.cpu(), gold, decode(output.logits, output.spans), strict=True):
        indices, types = torch.tensor([(span.index, span.label) for span in spans]).long().view(-1, 2).unbind(1)
        found.append((logits[indices], labels[indices] == types))
    return found


def likeliest_temperature(logits: Tensor, right: Tensor) -> float:
    """The temperature in [1/4, 4] that makes it likeliest that exactly these entities are right; 1 without entities.

    A few entities that are all right must not lead to scores of 1. The targets are therefore Platt's (1999, section
    2.2), as if one more entity had been right and one more wrong.

    Args:
        logits: (N, 1 + types) float, of the entities' spans; index 0 is "no entity".
        right: (N,) bool.
    """
    if not len(right):
        return 1.0
    positive, negative = int(right.sum()), int((~right).sum())
    target = torch.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2)).double()
    score = (logits.double() / _SEARCHED[:, None, None]).softmax(-1)[..., 1:].amax(-1)  # (temperatures, N)
    score = score.clamp(max=1 - 1e-12)
    log_likelihood = (target * score.log() + (1 - target) * (-score).log1p()).sum(1)
    return round(float(_SEARCHED[log_likelihood.argmax()]), 4)
