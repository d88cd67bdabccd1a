import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from model.modeling.bottleneck import (
    CosineCritic,
    CrossModalBottleneck,
    Gaussian,
    MLPCritic,
    Posterior,
    info_nce,
    kl_divergence,
    mean_rank,
)


def gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.rand(shape) + 0.1)


def test_kl_of_one_dimension_by_hand() -> None:
    """KL(N(1, 2²) ‖ N(0, 1)) = ½ (σ² + μ² − 1 − ln σ²) = ½ (4 + 1 − 1 − ln 4) = 2 − ln 2."""
    image = Gaussian(torch.tensor([[1.0]]), torch.tensor([[2.0]]))
    text = Gaussian(torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert kl_divergence(image, text).item() == pytest.approx(2 - math.log(2))


def test_kl_is_that_of_torch_summed_over_dimensions() -> None:
    image, text = gaussian(5, 768), gaussian(5, 768)
    expected = torch_kl(Independent(Normal(*image), 1), Independent(Normal(*text), 1))
    torch.testing.assert_close(kl_divergence(image, text), expected)


def test_kl_goes_from_image_to_text() -> None:
    narrow = Gaussian(torch.zeros(1, 1), torch.full((1, 1), 0.1))
    wide = Gaussian(torch.zeros(1, 1), torch.ones(1, 1))
    assert kl_divergence(image=wide, text=narrow) > kl_divergence(image=narrow, text=wide)


def test_kl_of_equal_distributions_is_zero_and_else_positive() -> None:
    image, text = gaussian(8, 768), gaussian(8, 768)
    torch.testing.assert_close(kl_divergence(image, image), torch.zeros(8))
    assert kl_divergence(image, text).gt(0).all()


def test_info_nce_of_two_pairs_by_hand() -> None:
    """Row 1: ln(e² + e⁰) − 2 = ln(1 + e⁻²), row 2: ln(e⁰ + e¹) − 1 = ln(1 + e⁻¹); their mean."""
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert info_nce(scores).item() == pytest.approx(expected)


def test_info_nce_contrasts_a_text_with_all_images_not_a_image_with_all_texts() -> None:
    """Texts stand in rows: [[0, 0], [9, 9]] says nothing within a row, ln 2."""
    assert info_nce(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_info_nce_at_equal_scores_is_ln_of_the_batch(batch: int) -> None:
    assert info_nce(torch.full((batch, batch), 3.0)).item() == pytest.approx(math.log(batch), abs=1e-6)


def test_info_nce_is_cross_entropy_with_the_own_image_as_class() -> None:
    scores = torch.randn(7, 7) * 5
    torch.testing.assert_close(info_nce(scores), F.cross_entropy(scores, torch.arange(7)))


def test_info_nce_survives_scores_whose_exponential_overflows() -> None:
    assert info_nce(torch.tensor([[500.0, 0.0], [0.0, 500.0]])).item() == 0


def test_mean_rank_by_hand() -> None:
    """Row 1: 1 is beaten by 2 and 3, place 3. Row 2: 5 is best, place 1. Row 3: 0 is beaten by 1, place 2."""
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, 4.0], [1.0, -1.0, 0.0]])
    assert mean_rank(scores).item() == 2


def test_a_critic_that_tells_nothing_apart_ranks_at_chance() -> None:
    """A dead critic scores all alike; were ties wins, it would look perfect: (B + 1) / 2 for B = 5 is 3."""
    assert mean_rank(torch.zeros(5, 5)).item() == 3


@pytest.mark.parametrize("initial", [0.1, 0.69])
def test_deviations_start_near_the_configured_one(initial: float) -> None:
    posterior = Posterior(64, initial_deviation=initial)(torch.randn(100, 64))
    assert posterior.deviation.mean().item() == pytest.approx(initial, rel=0.1)


def test_a_deviation_is_positive_whatever_the_network_says() -> None:
    posterior = Posterior(4, initial_deviation=0.1)
    nn.init.constant_(posterior.head.bias, -1e4)
    assert posterior(torch.randn(3, 4)).deviation.gt(0).all()


def test_a_posterior_has_three_linear_layers_with_relu_after_the_first_two() -> None:
    posterior = Posterior(4, initial_deviation=0.1)
    first, relu, second, relu_too = posterior.trunk
    assert isinstance(relu, nn.ReLU)
    assert isinstance(relu_too, nn.ReLU)
    assert sum(isinstance(module, nn.Linear) for module in posterior.modules()) == 3
    hidden = torch.randn(2, 4)
    expected = posterior.head(second(first(hidden).relu()).relu())
    torch.testing.assert_close(posterior(hidden).mean, expected[:, :4])


def test_mean_and_deviation_have_the_width_of_the_text_encoder() -> None:
    mean, deviation = Posterior(6, initial_deviation=0.1)(torch.randn(3, 6))
    assert mean.shape == deviation.shape == (3, 6)
    assert mean.lt(0).any()  # no last ReLU


def test_samples_have_the_mean_and_deviation_of_their_distribution() -> None:
    """Standard error of 100,000 draws with σ = 0.5 is 0.0016 of the mean, 0.0011 of the deviation."""
    sample = Gaussian(torch.full((100_000, 1), 2.0), torch.full((100_000, 1), 0.5)).sample()
    assert sample.mean().item() == pytest.approx(2, abs=0.008)
    assert sample.std().item() == pytest.approx(0.5, abs=0.006)


def test_gradients_flow_through_a_sample() -> None:
    """z = μ + σ ε: ∂z/∂μ = 1, ∂z/∂σ = ε = (z − μ) / σ."""
    mean = torch.randn(2, 3, requires_grad=True)
    deviation = torch.tensor([[0.5, 1.0, 2.0]] * 2, requires_grad=True)
    sample = Gaussian(mean, deviation).sample()
    by_mean, by_deviation = torch.autograd.grad(sample.sum(), (mean, deviation))
    assert torch.equal(by_mean, torch.ones(2, 3))
    torch.testing.assert_close(by_deviation, ((sample - mean) / deviation).detach())


def test_every_sample_draws_its_own_noise() -> None:
    standard = Gaussian(torch.zeros(1, 10_000), torch.ones(1, 10_000))
    correlation = torch.corrcoef(torch.cat([standard.sample(), standard.sample()]))[0, 1]
    assert abs(correlation.item()) < 0.05  # five standard errors


def test_the_critic_scores_text_i_with_image_j_at_row_i_column_j() -> None:
    critic, text, image = MLPCritic(4), torch.randn(3, 4), torch.randn(3, 4)
    scores = critic(text, image)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(scores[i, j], critic.layers(torch.cat([text[i], image[j]]))[0])


def test_the_critic_is_an_mlp_from_2d_over_d_and_d_to_1() -> None:
    linears = [layer for layer in MLPCritic(6).layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(12, 6), (6, 6), (6, 1)]


def test_the_cosine_critic_scores_text_i_with_image_j_at_row_i_column_j() -> None:
    critic, text, image = CosineCritic(4), torch.randn(3, 4), torch.randn(3, 4)
    scores = critic(text, image)
    for i in range(3):
        for j in range(3):
            cosine = F.cosine_similarity(
                critic.text_projection.weight @ text[i], critic.image_projection.weight @ image[j], dim=0
            )
            torch.testing.assert_close(scores[i, j], cosine * 10)


def test_the_cosine_critic_does_not_look_at_lengths() -> None:
    critic, text, image = CosineCritic(4), torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(critic(text * 7, image / 3), critic(text, image))


def test_the_bottleneck_takes_the_critic_it_is_told() -> None:
    build = functools.partial(CrossModalBottleneck, 4, initial_deviation=0.1)
    assert isinstance(build().critic, MLPCritic)
    assert isinstance(build(critic="cosine").critic, CosineCritic)


def loss_terms(bottleneck: CrossModalBottleneck, posts: int) -> tuple[Tensor, Tensor, Gaussian, Gaussian]:
    text, image = gaussian(posts, 4), gaussian(posts, 4)
    loss = bottleneck.loss(text, image, text.mean, image.mean)
    assert loss is not None
    return loss.info_nce, loss.kl, text, image


def test_the_loss_averages_kl_over_posts_and_contrasts_the_critics_scores() -> None:
    bottleneck = CrossModalBottleneck(4, initial_deviation=0.1)
    contrast, kl, text, image = loss_terms(bottleneck, 3)
    torch.testing.assert_close(contrast, info_nce(bottleneck.critic(text.mean, image.mean)))
    torch.testing.assert_close(kl, torch_kl(Normal(*image), Normal(*text)).sum(1).mean())


def test_a_single_post_has_nothing_to_contrast_but_still_a_kl() -> None:
    contrast, kl, text, image = loss_terms(CrossModalBottleneck(4, initial_deviation=0.1), 1)
    assert contrast.item() == 0
    torch.testing.assert_close(kl, kl_divergence(image, text)[0])


def test_each_modality_has_a_posterior_network_of_its_own() -> None:
    bottleneck = CrossModalBottleneck(4, initial_deviation=0.1)
    hidden = torch.randn(1, 4)
    assert not torch.equal(bottleneck.text_posterior(hidden).mean, bottleneck.image_posterior(hidden).mean)
