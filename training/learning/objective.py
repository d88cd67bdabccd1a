"""What training minimizes: L = L_cls + λ (InfoNCE + β KL), eq. 2, 15 and 16; distillation and R-Drop on top.

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
        distillation_weight: share of the teacher in the loss of a span that also has a label, in [0, 1].
        distillation_temperature: of the teacher's and the student's distributions.
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
        distillation_weight: float = 0.5,
        distillation_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.no_entity_weight = no_entity_weight
        self.cmib_weight = cmib_weight
        self.cmib_beta = cmib_beta
        self.consistency_weight = consistency_weight
        self.image_dropout = image_dropout
        self.distillation_weight = distillation_weight
        self.distillation_temperature = distillation_temperature

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
            distillation_weight=recipe.distillation_weight,
            distillation_temperature=recipe.distillation_temperature,
        )

    def forward(self, batch: Batch) -> Losses:
        """Compute the loss of a batch.

        A post without tags and without a teacher's logits contributes only to the bottleneck and the divergence.

        Args:
            batch: what :class:`training.data.dataset.Collator` makes.
        """
        passes = 2 if self.consistency_weight else 1
        # both passes in one forward: DDP allows only one a step if a parameter may stay unused
        repeated = {key: torch.cat([tensor] * passes) for key, tensor in batch.items()}  # (passes · B, …)
        labels = repeated.pop("labels")
        teacher_logits, taught = repeated.pop("teacher_logits", None), repeated.pop("taught", None)
        output: SMNEROutput = self.network(**self._drop_images(repeated))
        assert output.logits is not None
        spans = span_loss(
            output.logits,
            labels,
            teacher_logits,
            taught,
            no_entity_weight=self.no_entity_weight,
            distillation_weight=self.distillation_weight,
            temperature=self.distillation_temperature,
        )
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


def span_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None = None,
    taught: Tensor | None = None,
    *,
    no_entity_weight: float,
    distillation_weight: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Eq. 15 with a weight on "no entity", mixed with distillation: the mean over spans that have a label or a teacher.

    A span with only one of them gets its whole loss from that one. 0 if no span has either.

    Args:
        logits, teacher_logits: (B, S, 1 + types) float.
        labels: (B, S) int64, or IGNORED.
        taught: (B, S) bool, True where the teacher's logits mean something.
        distillation_weight: the teacher's share where a span has both, in [0, 1].
    """
    labeled = labels != IGNORED
    each = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    each = each * torch.where(labels == 0, no_entity_weight, 1.0) * labeled  # (B, S)
    if teacher_logits is None or taught is None:
        return share_of_mean(each, labeled.sum())
    share = torch.where(labeled, distillation_weight, 1.0) * taught
    lesson = _distillation(logits.float(), teacher_logits, temperature=temperature, no_entity_weight=no_entity_weight)
    return share_of_mean((1 - share) * each + share * lesson, (labeled | taught).sum())


def _distillation(logits: Tensor, teacher_logits: Tensor, *, temperature: float, no_entity_weight: float) -> Tensor:
    """T² KL(teacher ‖ student) of each span's classes, (B, S) in nats (Hinton et al. 2015, section 2).

    The weight on "no entity" counts in proportion to the probability that the teacher gives it.
    """
    weight = 1 - (1 - no_entity_weight) * teacher_logits.softmax(-1)[..., 0]
    target, own = (teacher_logits / temperature).log_softmax(-1), (logits / temperature).log_softmax(-1)
    return weight * temperature**2 * (target.exp() * (target - own)).sum(-1)


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
