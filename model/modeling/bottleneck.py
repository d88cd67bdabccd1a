"""The cross-modal information bottleneck CMIB (section 3.3): aligns the whole image with the whole text.

Both modalities are mapped to posteriors in the same space. The loss that aligns them, eq. 2, is in
:mod:`training.learning.objective`.

Notation: B posts, d width of the text encoder.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gaussian(NamedTuple):
    """A diagonal normal distribution for each post, eq. 4: ``mean`` and ``deviation`` σ > 0, both (B, d) float32."""

    mean: Tensor
    deviation: Tensor

    def sample(self) -> Tensor:
        """Draw by reparameterization, eq. 5, with fresh ε ~ N(0, I); (B, d)."""
        return self.mean + self.deviation * torch.randn_like(self.deviation)

    def select(self, rows: Tensor) -> "Gaussian":
        """The distributions of some posts; ``rows`` is an index or a mask over B."""
        return Gaussian(self.mean[rows], self.deviation[rows])


class Posterior(nn.Module):
    """p(z | x) of one modality, eq. 4: three linear layers, ReLU after the first two, μ and σ from the third."""

    def __init__(self, width: int, *, initial_deviation: float) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 2 * width)
        self.offset = math.log(math.expm1(initial_deviation))  # softplus(offset) = initial_deviation

    def forward(self, hidden: Tensor) -> Gaussian:
        """(B, d) float → μ and σ, (B, d) each."""
        mean, spread = self.head(self.trunk(hidden)).float().chunk(2, -1)  # bfloat16 is too coarse for the KL
        return Gaussian(mean, F.softplus(spread + self.offset) + 1e-7)


class MLPCritic(nn.Module):
    """The paper's discriminator f_d of eq. 7, an MLP on [t ; v]: 2d → d → d → 1."""

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
    """A separable f_d of eq. 7: the cosine of a linear projection of each side, over a learned temperature.

    An MLP on [t ; v] must learn to compare its two halves, which takes more than a few hundred batches of sixteen
    images. This one compares from the start, as CLIP does (Radford et al. 2021).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text_projection = nn.Linear(width, width, bias=False)
        self.image_projection = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor([math.log(10)]))  # a temperature of 0.1

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Score every text with every image: (b, d), (B, d) → (b, B), texts in rows."""
        texts = F.normalize(self.text_projection(text), dim=-1)
        images = F.normalize(self.image_projection(image), dim=-1)
        return texts @ images.T * self.log_scale.exp()


CRITICS = {"mlp": MLPCritic, "cosine": CosineCritic}


class Aligned(NamedTuple):
    """The output of CMIB.

    The samples z_t and z_v, (B, d) float, are the means in evaluation, so that a post always gets the same answer. The
    image's fields are None without images.
    """

    text_posterior: Gaussian
    text_sample: Tensor
    image_posterior: Gaussian | None = None
    image_sample: Tensor | None = None


class CrossModalBottleneck(nn.Module):
    """Each modality's posterior, and the critic that contrasts their samples in training.

    Args:
        critic: f_d of eq. 7, a name in :data:`CRITICS`.
    """

    def __init__(self, width: int, *, initial_deviation: float, critic: str = "mlp") -> None:
        super().__init__()
        self.text_posterior = Posterior(width, initial_deviation=initial_deviation)
        self.image_posterior = Posterior(width, initial_deviation=initial_deviation)
        self.critic = CRITICS[critic](width)

    def forward(self, text: Tensor, image: Tensor | None) -> Aligned:
        """Map h_t^g and h_v^g, (B, d) float, to posteriors and samples."""
        text_posterior = self.text_posterior(text)
        aligned = Aligned(text_posterior, self._draw(text_posterior))
        if image is None:
            return aligned
        image_posterior = self.image_posterior(image)
        return aligned._replace(image_posterior=image_posterior, image_sample=self._draw(image_posterior))

    def _draw(self, posterior: Gaussian) -> Tensor:
        drawn = posterior.sample() if self.training else posterior.mean
        return drawn.to(self.text_posterior.head.weight.dtype)
