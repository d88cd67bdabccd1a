import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.modeling.bottleneck import CosineCritic, CrossModalBottleneck, Gaussian, MLPCritic, Posterior


@pytest.mark.parametrize("initial", [0.1, 0.69])
def test_deviations_start_near_the_configured_one(initial: float) -> None:
    posterior = Posterior(64, initial_deviation=initial)(torch.randn(100, 64))
    assert posterior.deviation.mean().item() == pytest.approx(initial, rel=0.1)


def test_a_deviation_is_positive_whatever_the_network_says() -> None:
    posterior = Posterior(4, initial_deviation=0.1)
    nn.init.constant_(posterior.head.bias, -1e4)
    assert posterior(torch.randn(3, 4)).deviation.gt(0).all()


def test_posterior_has_three_linear_layers() -> None:
    posterior = Posterior(4, initial_deviation=0.1)
    first, relu, second, relu_too = posterior.trunk
    assert isinstance(relu, nn.ReLU)
    assert isinstance(relu_too, nn.ReLU)
    assert sum(isinstance(module, nn.Linear) for module in posterior.modules()) == 3
    hidden = torch.randn(2, 4)
    expected = posterior.head(second(first(hidden).relu()).relu())
    torch.testing.assert_close(posterior(hidden).mean, expected[:, :4])


def test_posterior_has_encoder_width() -> None:
    mean, deviation = Posterior(6, initial_deviation=0.1)(torch.randn(3, 6))
    assert mean.shape == deviation.shape == (3, 6)
    assert mean.lt(0).any()  # no last ReLU


def test_samples_have_their_distributions_mean_and_deviation() -> None:
    """With 100,000 draws and σ = 0.5, the standard error is 0.0016 (mean) and 0.0011 (deviation)."""
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


def test_mlp_critic_scores_texts_in_rows() -> None:
    critic, text, image = MLPCritic(4), torch.randn(3, 4), torch.randn(3, 4)
    scores = critic(text, image)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(scores[i, j], critic.layers(torch.cat([text[i], image[j]]))[0])


def test_mlp_critic_widths() -> None:
    linears = [layer for layer in MLPCritic(6).layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(12, 6), (6, 6), (6, 1)]


def test_cosine_critic_scores_texts_in_rows() -> None:
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


def test_each_modality_has_its_own_posterior() -> None:
    hidden = torch.randn(1, 4)
    aligned = CrossModalBottleneck(4, initial_deviation=0.1)(hidden, hidden)
    assert not torch.equal(aligned.text_posterior.mean, aligned.image_posterior.mean)


def test_samples_are_means_in_evaluation() -> None:
    bottleneck = CrossModalBottleneck(4, initial_deviation=0.1)
    hidden = torch.randn(2, 4)
    drawn, fixed = bottleneck(hidden, hidden), bottleneck.eval()(hidden, hidden)
    assert torch.equal(fixed.text_sample, fixed.text_posterior.mean)
    assert torch.equal(fixed.image_sample, fixed.image_posterior.mean)
    assert not torch.equal(drawn.image_sample, drawn.image_posterior.mean)


def test_training_draws_independent_noise_for_each_modality() -> None:
    """ε = (z − μ) / σ, 10,000 values of each modality: the correlation has a standard error of 0.01."""
    aligned = CrossModalBottleneck(100, initial_deviation=0.5)(torch.randn(100, 100), torch.randn(100, 100))
    noise = [
        (sample - posterior.mean) / posterior.deviation
        for posterior, sample in (
            (aligned.text_posterior, aligned.text_sample),
            (aligned.image_posterior, aligned.image_sample),
        )
    ]
    both = torch.stack([each.flatten() for each in noise])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.05
    assert both.std(1).tolist() == pytest.approx([1, 1], abs=0.05)
