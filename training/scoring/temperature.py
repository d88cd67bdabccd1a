"""The temperature at which the scores of entities tell how often such entities are right."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from model import SMNER
from model.decoding import decode
from training.data.dataset import Collator, PostDataset

_SEARCHED = torch.logspace(-2, 2, 401, base=2, dtype=torch.float64)  # 1/4 to 4 in steps of 0.7 %


@torch.inference_mode()
def fit_temperature(
    model: SMNER, datasets: Sequence[PostDataset], collator: Collator, *, batch_size: int = 32
) -> float:
    """Fit the temperature to the entities that the model finds in tagged posts.

    Only those have a score that anybody sees. Fitted to all spans, as a classifier's would be, it answers for the easy
    "no entity" of nearly all of them.
    """
    training = model.training
    model.eval()
    logits: list[Tensor] = []
    right: list[Tensor] = []
    for dataset in datasets:
        order = sorted(range(len(dataset)), key=dataset.length)
        for batch in DataLoader(dataset, batch_size=batch_size, sampler=order, collate_fn=collator):
            gold = batch.pop("labels")
            output = model(**{key: tensor.to(model.device) for key, tensor in batch.items()})
            for own, labels, spans in zip(output.logits.cpu(), gold, decode(output.logits, output.spans), strict=True):
                places = torch.tensor([span.index for span in spans], dtype=torch.int64)
                logits.append(own[places])
                right.append(labels[places] == torch.tensor([span.label for span in spans], dtype=torch.int64))
    model.train(training)
    return likeliest_temperature(torch.cat(logits), torch.cat(right)) if logits else 1.0


def likeliest_temperature(logits: Tensor, right: Tensor) -> float:
    """The temperature in [1/4, 4] at which it is likeliest that just these entities are right; 1 without any.

    A few entities that are all right do not make scores of 1: the targets are Platt's (1999, section 2.2), as though
    one entity more had been right and one more wrong.

    Args:
        logits: (N, 1 + types) float of the entities' spans, index 0 is "no entity".
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
