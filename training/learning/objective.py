"""What training minimises (eq. 2, 15 and 16)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.modeling.smner import SMNEROutput
from training.data.dataset import IGNORED
from training.learning.distributed import share_of_mean


class Losses(NamedTuple):
    """The loss and its parts, scalars in nats; ``rank`` as in :class:`model.modeling.bottleneck.BottleneckLoss`."""

    total: Tensor
    spans: Tensor
    info_nce: Tensor
    kl: Tensor
    rank: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """L = L_cls + λ (InfoNCE + β KL), and for two passes their mean plus the weighted divergence between them.

    With several processes it is this one's share of the whole batch's loss, see :mod:`training.learning.distributed`.

    Args:
        no_entity_weight: weight of "no entity" in the span cross-entropy, in (0, 1].
        cmib_weight: λ of eq. 16.
        cmib_beta: β of eq. 2.
        consistency_weight: weight of the divergence.
    """

    no_entity_weight: float
    cmib_weight: float
    cmib_beta: float
    consistency_weight: float

    def __call__(self, output: SMNEROutput, labels: Tensor) -> Losses:
        """Score a batch; posts without tags (labels all IGNORED) contribute the bottleneck alone.

        Args:
            output: of the network, with the bottleneck's terms.
            labels: (B, S) int64, the class of each span or IGNORED.
        """
        assert output.logits is not None
        spans = span_cross_entropy(output.logits, labels, no_entity_weight=self.no_entity_weight)
        if output.bottleneck is None:
            zero = spans.new_zeros(())
            return Losses(spans, spans, zero, zero, zero)
        info_nce, kl, rank = output.bottleneck
        return Losses(spans + self.cmib_weight * (info_nce + self.cmib_beta * kl), spans, info_nce, kl, rank)

    def twice(self, output: SMNEROutput, labels: Tensor) -> Losses:
        """Score two passes over the same posts (R-Drop, Liang et al. 2021), tagged or not.

        Where a post's photo was dropped in one pass alone, the passes are pulled together too: what the text says by
        itself must not change because a photo that tells nothing new is attached.

        Args:
            output: of a batch that has all posts twice, the second copies behind the first.
            labels: (B, S) int64, of the posts once.
        """
        assert output.logits is not None
        assert output.spans is not None
        losses = self(output, labels.repeat(2, 1))
        first, second = output.logits.chunk(2)
        divergence = symmetric_divergence(first, second, output.spans.mask[: len(first)])
        return losses._replace(total=losses.total + self.consistency_weight * divergence)


def symmetric_divergence(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """½ [KL(p ‖ q) + KL(q ‖ p)] of the class distributions, as the mean over real spans, in nats.

    Args:
        first, second: logits, (B, S, 1 + types) float.
        mask: (B, S) bool, True on real spans.
    """
    log_p, log_q = first.float().log_softmax(-1), second.float().log_softmax(-1)
    each = 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)  # (B, S)
    return share_of_mean(each.masked_fill(~mask, 0), mask.sum())


def span_cross_entropy(logits: Tensor, labels: Tensor, *, no_entity_weight: float) -> Tensor:
    """Eq. 15 with a weight on "no entity", as the mean over real spans; 0 where no span is real.

    Args:
        logits: (B, S, 1 + types) float.
        labels: (B, S) int64.
    """
    real = labels != IGNORED
    weight = torch.where(labels == 0, no_entity_weight, 1.0)
    each = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return share_of_mean(each * weight.flatten() * real.flatten(), real.sum())
