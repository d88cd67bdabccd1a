"""The cross-modal information bottleneck CMIB (section 3.3): the whole image is aligned with the whole text.

Notation: B posts, d width of the text encoder.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.learning.distributed import gather_rows, share_of_mean, sum_over_processes


class Gaussian(NamedTuple):
    """A diagonal normal distribution for each post, eq. 4: ``mean`` and ``deviation`` σ > 0, both (B, d)."""

    mean: Tensor
    deviation: Tensor

    def sample(self) -> Tensor:
        """Draw by reparameterisation, eq. 5, with its own ε ~ N(0, I); (B, d)."""
        return self.mean + self.deviation * torch.randn_like(self.deviation)


class Posterior(nn.Module):
    """p(z | x) of one modality, eq. 4: three linear layers, ReLU after the first two, μ and σ from the third."""

    def __init__(self, width: int, *, initial_deviation: float) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 2 * width)
        self.offset = math.log(math.expm1(initial_deviation))  # softplus(offset) = initial_deviation

    def forward(self, hidden: Tensor) -> Gaussian:
        """(B, d) float → μ and σ, (B, d) each."""
        mean, spread = self.head(self.trunk(hidden)).float().chunk(2, -1)  # the KL cancels too much for bfloat16
        return Gaussian(mean, F.softplus(spread + self.offset) + 1e-7)


class MLPCritic(nn.Module):
    """The discriminator f_d of eq. 7 as the paper has it, an MLP on [t ; v]: 2d → d → d → 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Score every text with every image: (b, d), (B, d) → (b, B), texts in rows."""
        texts, images = len(text), len(image)
        pairs = torch.cat([text[:, None].expand(-1, images, -1), image[None].expand(texts, -1, -1)], -1)  # (b, B, 2d)
        scores: Tensor = self.layers(pairs)[..., 0]
        return scores


class CosineCritic(nn.Module):
    """A separable f_d of eq. 7: the cosine of one linear projection of each side, over a learnt temperature.

    An MLP on [t ; v] has to find out by itself that its two halves are to be compared, which a few hundred batches of
    sixteen photos do not teach it; this one compares from the start (as CLIP does, Radford et al. 2021).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text_projection = nn.Linear(width, width, bias=False)
        self.image_projection = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor([math.log(10)]))  # a temperature of 0.1; FSDP shards no scalars

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Score every text with every image: (b, d), (B, d) → (b, B), texts in rows."""
        texts = F.normalize(self.text_projection(text), dim=-1)
        images = F.normalize(self.image_projection(image), dim=-1)
        return texts @ images.T * self.log_scale.exp()


CRITICS = {"mlp": MLPCritic, "cosine": CosineCritic}


class BottleneckLoss(NamedTuple):
    """The two terms of eq. 2, scalars in nats: what is minimised is ``info_nce + β · kl``.

    ``rank`` tells whether the terms do their work: the mean place, from 1, of a post's own photo among the batch's.
    """

    info_nce: Tensor
    kl: Tensor
    rank: Tensor


class CrossModalBottleneck(nn.Module):
    """Posteriors of both modalities and the loss that pulls the image's towards the text's.

    Args:
        critic: f_d of eq. 7, a name in :data:`CRITICS`.
    """

    def __init__(self, width: int, *, initial_deviation: float, critic: str = "mlp") -> None:
        super().__init__()
        self.text_posterior = Posterior(width, initial_deviation=initial_deviation)
        self.image_posterior = Posterior(width, initial_deviation=initial_deviation)
        self.critic = CRITICS[critic](width)

    def loss(self, text: Gaussian, image: Gaussian, text_sample: Tensor, image_sample: Tensor) -> BottleneckLoss | None:
        """Both terms over the batch's posts with a photo, None if there are none.

        With a single post there is nothing to contrast and InfoNCE is 0.

        In several processes the terms are this one's shares of the whole batch's, and every text is contrasted with
        the photos of all of them; each has to call it, with no row at all if none of its posts has a photo.
        """
        own = torch.tensor(len(text_sample), device=text_sample.device)
        posts = int(sum_over_processes(own))
        if posts == 0:
            return None
        kl = share_of_mean(kl_divergence(image, text), own)
        if posts == 1:
            return BottleneckLoss(kl.new_zeros(()), kl, kl.new_ones(()))
        images, first = gather_rows(image_sample)
        scores = self.critic(text_sample, images).float()
        return BottleneckLoss(info_nce(scores, first=first), kl, mean_rank(scores, first=first))


def info_nce(scores: Tensor, *, first: int = 0) -> Tensor:
    """Eq. 7 as reading.md has it: −mean_i [f(t_i, v_i) − logsumexp_j f(t_i, v_j)], at chance ln B.

    Args:
        scores: (b, B) float, the texts of this process in rows, the photos of all processes in columns.
        first: the column of the first row's own photo; the others' follow.
    """
    each = scores.logsumexp(1) - scores.diagonal(first)  # (b,)
    return share_of_mean(each, _rows(scores))


def mean_rank(scores: Tensor, *, first: int = 0) -> Tensor:
    """Mean place of the true pair in a row of ``scores``, as above: 1 at best, (B + 1) / 2 at chance."""
    own = scores.diagonal(first)[:, None]
    better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    return share_of_mean(1 + better + equal / 2, _rows(scores))


def _rows(scores: Tensor) -> Tensor:
    return torch.tensor(len(scores), device=scores.device)


def kl_divergence(image: Gaussian, text: Gaussian) -> Tensor:
    """KL(p(z_v | x_v) ‖ p(z_t | x_t)) of eq. 3 in closed form, summed over dimensions: (B,) in nats."""
    ratio = (image.deviation / text.deviation).square()
    distance = ((image.mean - text.mean) / text.deviation).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)
