"""What training minimizes: L = L_cls + λ (InfoNCE + β KL), eq. 2, 15 and 16, and R-Drop on top.

Notation: B posts, S spans, d width of the text encoder.
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import SMNER, SMNEROutput
from model.modeling.bottleneck import Gaussian
from model.preprocessing.processor import Batch
from training.data.dataset import IGNORED
from training.learning.distributed import gather_rows, share_of_mean, sum_over_processes
from training.recipes.recipe import Recipe


class Losses(NamedTuple):
    """The loss and its terms, scalars in nats.

    ``rank`` shows whether the bottleneck works: the mean rank, from 1, of a post's own image among the batch's.
    With several processes each term is this one's share of the total.
    """

    total: Tensor
    spans: Tensor
    info_nce: Tensor
    kl: Tensor
    rank: Tensor


class Objective(nn.Module):
    """A network and its loss on a labeled batch.

    A module, so that DDP wraps the whole path from batch to loss, critic included.

    Args:
        network: :class:`model.SMNER`, or another network with its inputs and output.
        no_entity_weight: weight of "no entity" in the span cross-entropy, in (0, 1].
        cmib_weight: λ of eq. 16.
        cmib_beta: β of eq. 2.
        consistency_weight: weight of the divergence between two passes (R-Drop, Liang et al. 2021); 0 runs one pass.
        image_dropout: chance in [0, 1) of dropping a post's image, independently in each pass.
    """

    def __init__(
        self,
        network: SMNER,
        *,
        no_entity_weight: float,
        cmib_weight: float,
        cmib_beta: float,
        consistency_weight: float = 0.0,
        image_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.no_entity_weight = no_entity_weight
        self.cmib_weight = cmib_weight
        self.cmib_beta = cmib_beta
        self.consistency_weight = consistency_weight
        self.image_dropout = image_dropout

    @classmethod
    def of(cls, network: SMNER, recipe: Recipe) -> Self:
        """Make a recipe's objective."""
        return cls(
            network,
            no_entity_weight=recipe.no_entity_weight,
            cmib_weight=recipe.cmib_weight,
            cmib_beta=recipe.cmib_beta,
            consistency_weight=recipe.consistency_weight,
            image_dropout=recipe.image_dropout,
        )

    def forward(self, batch: Batch) -> Losses:
        """Compute the loss of a batch; an untagged post contributes only to the bottleneck and the divergence.

        Args:
            batch: the inputs of :meth:`model.SMNER.forward` and ``labels`` (B, S) int64, the class of each span or
                IGNORED.
        """
        passes = 2 if self.consistency_weight else 1
        # both passes in one forward: DDP allows only one a step if a parameter may stay unused
        repeated = {key: torch.cat([tensor] * passes) for key, tensor in batch.items()}  # (passes · B, …)
        labels = repeated.pop("labels")
        output: SMNEROutput = self.network(**self._drop_images(repeated))
        assert output.logits is not None
        spans = span_cross_entropy(output.logits, labels, no_entity_weight=self.no_entity_weight)
        info_nce, kl, rank = self._bottleneck(output, passes)
        total = spans + self.cmib_weight * (info_nce + self.cmib_beta * kl)
        if passes == 2:
            total = total + self.consistency_weight * self._divergence(output)
        return Losses(total, spans, info_nce, kl, rank)

    def _drop_images(self, inputs: Batch) -> Batch:
        if "image_mask" not in inputs:
            return inputs
        mask = inputs["image_mask"]
        kept = torch.rand(mask.shape, device=mask.device) >= self.image_dropout
        return {**inputs, "image_mask": mask & kept}

    def _bottleneck(self, output: SMNEROutput, passes: int) -> tuple[Tensor, Tensor, Tensor]:
        """InfoNCE, KL and rank as means over the passes; all 0 without CMIB or images.

        No post is contrasted with another pass's images. A pass whose images were all dropped, in every process, adds
        nothing to InfoNCE and KL and does not count in the rank.
        """
        assert output.logits is not None
        nothing = output.logits.new_zeros((), dtype=torch.float32)
        if output.text_posterior is None or output.text_sample is None:
            return nothing, nothing, nothing
        bottleneck = self.network.bottleneck
        assert bottleneck is not None  # it made the posterior
        terms = []
        for posts in torch.arange(len(output.logits), device=nothing.device).chunk(passes):
            # without an image here, other processes may still have some
            rows = posts[:0] if output.image_mask is None else posts[output.image_mask[posts]]
            image_posterior = output.image_posterior or output.text_posterior
            image_sample = output.text_sample if output.image_sample is None else output.image_sample
            found = bottleneck_terms(
                bottleneck.critic,
                output.text_posterior.select(rows),
                image_posterior.select(rows),
                output.text_sample[rows],
                image_sample[rows],
            )
            terms += [] if found is None else [found]
        if not terms:
            return nothing, nothing, nothing
        info_nce, kl, rank = (torch.stack(term).sum() for term in zip(*terms, strict=True))
        return info_nce / passes, kl / passes, rank / len(terms)

    def _divergence(self, output: SMNEROutput) -> Tensor:
        """Pull the two passes together, on untagged posts too.

        If only one pass dropped a post's image, this keeps an uninformative image from changing the answer.
        """
        assert output.logits is not None
        assert output.spans is not None
        first, second = output.logits.chunk(2)
        return symmetric_divergence(first, second, output.spans.mask[: len(first)])


def span_cross_entropy(logits: Tensor, labels: Tensor, *, no_entity_weight: float) -> Tensor:
    """Eq. 15 with a weight on "no entity", as the mean over labeled spans; 0 if no span is labeled.

    Args:
        logits: (B, S, 1 + types) float.
        labels: (B, S) int64.
    """
    labeled = labels != IGNORED
    weight = torch.where(labels == 0, no_entity_weight, 1.0)
    each = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return share_of_mean(each * weight.flatten() * labeled.flatten(), labeled.sum())


def bottleneck_terms(
    critic: nn.Module, text: Gaussian, image: Gaussian, text_sample: Tensor, image_sample: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """InfoNCE, KL (eq. 2) and mean rank over posts with an image, (b, d) each; None if no process has any.

    With a single post there is nothing to contrast: InfoNCE is 0 and the rank 1. Every process must call it;
    each contrasts the texts and images of all.
    """
    own = torch.tensor(len(text_sample), device=text_sample.device)
    if sum_over_processes(own) == 0:
        return None
    kl = share_of_mean(kl_divergence(image, text), own)
    scores = critic(gather_rows(text_sample), gather_rows(image_sample)).float()  # (B, B)
    return info_nce(scores), kl, mean_rank(scores)


def info_nce(scores: Tensor) -> Tensor:
    """Eq. 7, −mean_i [f(t_i, v_i) − logsumexp_j f(t_i, v_j)]; ln B at chance.

    Args:
        scores: (B, B) float, texts in rows, images in columns, the pairs on the diagonal.
    """
    return (scores.logsumexp(1) - scores.diagonal()).mean()


def mean_rank(scores: Tensor) -> Tensor:
    """Mean rank of the true pair in its row of ``scores`` (B, B): 1 at best, (B + 1) / 2 at chance."""
    own = scores.diagonal()[:, None]
    better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    return (1 + better + equal / 2).mean()


def kl_divergence(image: Gaussian, text: Gaussian) -> Tensor:
    """KL(p(z_v | x_v) ‖ p(z_t | x_t)) of eq. 3 in closed form, summed over dimensions: (B,) in nats."""
    ratio = (image.deviation / text.deviation).square()
    distance = ((image.mean - text.mean) / text.deviation).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def symmetric_divergence(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """½ [KL(p ‖ q) + KL(q ‖ p)] of the class distributions, as the mean over real spans, in nats.

    Args:
        first, second: logits, (B, S, 1 + types) float.
        mask: (B, S) bool, True on real spans.
    """
    log_p, log_q = first.float().log_softmax(-1), second.float().log_softmax(-1)
    each = 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)  # (B, S)
    return share_of_mean(each.masked_fill(~mask, 0), mask.sum())
