"""The cross-modal information bottleneck CMIB (section 3.3): the whole image is aligned with the whole text.

Notation: B posts, d width of the text encoder.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        """Score every text with every image: (B, d), (B, d) → (B, B), texts in rows."""
        posts = len(text)
        pairs = torch.cat([text[:, None].expand(-1, posts, -1), image[None].expand(posts, -1, -1)], -1)  # (B, B, 2d)
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
        self.log_scale = nn.Parameter(torch.tensor(math.log(10)))  # a temperature of 0.1

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Score every text with every image: (B, d), (B, d) → (B, B), texts in rows."""
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

    def loss(self, text: Gaussian, image: Gaussian, text_sample: Tensor, image_sample: Tensor) -> BottleneckLoss:
        """Both terms over posts with a photo; with a single post there is nothing to contrast and InfoNCE is 0."""
        scores = text_sample.new_zeros(1, 1)
        if len(text_sample) > 1:
            scores = self.critic(text_sample, image_sample).float()
        return BottleneckLoss(info_nce(scores), kl_divergence(image, text).mean(), mean_rank(scores))


def info_nce(scores: Tensor) -> Tensor:
    """Eq. 7 as reading.md has it: −mean_i [f(t_i, v_i) − logsumexp_j f(t_i, v_j)], at chance ln B.

    Args:
        scores: (B, B) float, texts in rows, the true pairs on the diagonal.
    """
    return -(scores.diagonal() - scores.logsumexp(1)).mean()


def mean_rank(scores: Tensor) -> Tensor:
    """Mean place of the true pair in each row of ``scores`` (B, B), 1 at best, (B + 1) / 2 at chance."""
    own = scores.diagonal()[:, None]
    better, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    return 1 + (better + equal / 2).mean()


def kl_divergence(image: Gaussian, text: Gaussian) -> Tensor:
    """KL(p(z_v | x_v) ‖ p(z_t | x_t)) of eq. 3 in closed form, summed over dimensions: (B,) in nats."""
    ratio = (image.deviation / text.deviation).square()
    distance = ((image.mean - text.mean) / text.deviation).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)
