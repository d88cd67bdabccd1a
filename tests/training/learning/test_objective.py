"""Loss terms by hand and against torch, then the objective around a network whose output is given."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from model import SMNER, SMNEROutput, SMNERProcessor
from model.modeling.bottleneck import CrossModalBottleneck, Gaussian, MLPCritic
from model.modeling.spans import enumerate_spans
from training.data.dataset import IGNORED
from training.learning.objective import (
    Losses,
    Objective,
    bottleneck_terms,
    info_nce,
    kl_divergence,
    mean_rank,
    span_loss,
    symmetric_divergence,
)

LN3 = math.log(3)  # three classes with equal logits
TEXTS = ["Kawhi Leonard at #NBA", "hi", "The cat sat in St . Louis"]


def gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.rand(shape) + 0.1)


def test_cross_entropy_weights_no_entity() -> None:
    """(0.5 · ln 3 + 1 · ln 3) / 2: weights are not in the denominator; padding counts nowhere."""
    loss = span_loss(torch.zeros(1, 3, 3), torch.tensor([[0, 2, IGNORED]]), no_entity_weight=0.5)
    torch.testing.assert_close(loss, torch.tensor(1.5 * LN3 / 2))


def test_an_unequal_case_by_hand() -> None:
    """Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4): −ln 1/2 · 0.1 for "no entity", −ln 1/4 for class 1."""
    logits = torch.tensor([[[math.log(2), 0, 0], [math.log(2), 0, 0]]])
    loss = span_loss(logits, torch.tensor([[0, 1]]), no_entity_weight=0.1)
    torch.testing.assert_close(loss, torch.tensor((0.1 * math.log(2) + math.log(4)) / 2))


def test_cross_entropy_averages_over_spans() -> None:
    """Four spans of class 1 at ln 3 and one at 0: a mean of post means would be ln 3 / 2."""
    logits = torch.zeros(2, 4, 3)
    logits[1, 0, 1] = 1000
    labels = torch.tensor([[1, 1, 1, 1], [1, IGNORED, IGNORED, IGNORED]])
    torch.testing.assert_close(span_loss(logits, labels, no_entity_weight=1), torch.tensor(4 * LN3 / 5))


@pytest.mark.parametrize("seed", range(3))
def test_with_equal_weights_it_is_torchs_cross_entropy(seed: int) -> None:
    torch.manual_seed(seed)
    logits, labels = torch.randn(4, 7, 5), torch.randint(0, 5, (4, 7))
    labels[torch.rand(4, 7) < 0.3] = IGNORED
    expected = F.cross_entropy(logits.view(-1, 5), labels.view(-1), ignore_index=IGNORED)
    torch.testing.assert_close(span_loss(logits, labels, no_entity_weight=1), expected)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.randn(1, 5000, 5).bfloat16()
    loss = span_loss(logits, torch.zeros(1, 5000, dtype=torch.int64), no_entity_weight=1)
    assert loss.dtype == torch.float32


def test_padding_has_no_gradient_whatever_its_logits() -> None:
    logits = torch.tensor([[[1.0, 2.0], [1e30, -1e30]]], requires_grad=True)
    torch.autograd.backward(span_loss(logits, torch.tensor([[1, IGNORED]]), no_entity_weight=0.5))
    assert logits.grad is not None
    assert logits.grad[0, 0].abs().sum() > 0
    assert logits.grad[0, 1].tolist() == [0, 0]


def test_untagged_post_does_not_change_the_loss() -> None:
    alone = torch.randn(1, 3, 4, requires_grad=True)
    beside = torch.cat([alone.detach(), torch.randn(1, 3, 4)]).requires_grad_()
    tagged = torch.tensor([[0, 1, 2]])
    losses = [
        span_loss(alone, tagged, no_entity_weight=0.5),
        span_loss(beside, torch.cat([tagged, torch.full((1, 3), IGNORED)]), no_entity_weight=0.5),
    ]
    torch.autograd.backward(losses)
    torch.testing.assert_close(losses[0], losses[1])
    assert alone.grad is not None
    assert beside.grad is not None
    torch.testing.assert_close(beside.grad, torch.cat([alone.grad, torch.zeros(1, 3, 4)]))


def test_distillation_by_hand() -> None:
    """Teacher (1/2, 1/2), student (1/4, 3/4): KL = ½ ln 2 + ½ ln ⅔, weight 1 − ½ · ½; label 1 costs −ln ¾."""
    logits, teacher = torch.tensor([[[0.0, LN3]]]), torch.zeros(1, 1, 2)
    kl = (math.log(2) + math.log(2 / 3)) / 2
    untagged = span_loss(logits, torch.tensor([[IGNORED]]), teacher, torch.tensor([[True]]), no_entity_weight=0.5)
    torch.testing.assert_close(untagged, torch.tensor(0.75 * kl))
    both = span_loss(
        logits, torch.tensor([[1]]), teacher, torch.tensor([[True]]), no_entity_weight=0.5, distillation_weight=0.2
    )
    torch.testing.assert_close(both, torch.tensor(0.2 * 0.75 * kl - 0.8 * math.log(3 / 4)))


def test_distillation_is_torchs_divergence_at_a_temperature() -> None:
    logits, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    nothing, everything = torch.full((2, 3), IGNORED), torch.ones(2, 3, dtype=torch.bool)
    found = span_loss(logits, nothing, teacher, everything, no_entity_weight=1, temperature=3)
    log_q, log_p = ((own / 3).log_softmax(-1).flatten(0, 1) for own in (logits, teacher))
    torch.testing.assert_close(found, 9 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True))


def test_a_span_without_teacher_or_label_counts_nowhere() -> None:
    """Three spans: a label alone, a teacher alone, neither."""
    logits, teacher = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    labels, taught = torch.tensor([[2, IGNORED, IGNORED]]), torch.tensor([[False, True, False]])
    found = span_loss(logits, labels, teacher, taught, no_entity_weight=1)
    label = F.cross_entropy(logits[0, :1], labels[0, :1])
    lesson = F.kl_div(logits[0, 1].log_softmax(-1), teacher[0, 1].softmax(-1), reduction="sum")
    torch.testing.assert_close(found, (label + lesson) / 2)


def test_the_divergence_between_two_passes_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4): ½ Σ (p − q)(ln p − ln q) = ½ (¼ ln 2 − ¼ ln ⅔) = ⅛ ln 3, for one of two spans."""
    first = torch.zeros(1, 3, 2)
    second = torch.tensor([[[0, LN3], [0, 0], [5, -5]]])
    real = torch.tensor([[True, True, False]])
    torch.testing.assert_close(symmetric_divergence(first, second, real), torch.tensor(LN3 / 8 / 2))


def test_divergence_is_torchs_in_both_directions() -> None:
    first, second = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    p, q = first.log_softmax(-1).flatten(0, 1), second.log_softmax(-1).flatten(0, 1)
    there, back = (F.kl_div(b, a, reduction="batchmean", log_target=True) for a, b in ((p, q), (q, p)))
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(symmetric_divergence(first, second, everywhere), (there + back) / 2)
    assert symmetric_divergence(first, first, everywhere) == 0


def test_kl_of_one_dimension_by_hand() -> None:
    """KL(N(1, 2²) ‖ N(0, 1)) = ½ (σ² + μ² − 1 − ln σ²) = ½ (4 + 1 − 1 − ln 4) = 2 − ln 2."""
    image = Gaussian(torch.tensor([[1.0]]), torch.tensor([[2.0]]))
    text = Gaussian(torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert kl_divergence(image, text).item() == pytest.approx(2 - math.log(2))


def test_kl_is_torchs_summed_over_dimensions() -> None:
    image, text = gaussian(5, 768), gaussian(5, 768)
    expected = torch_kl(Independent(Normal(*image), 1), Independent(Normal(*text), 1))
    torch.testing.assert_close(kl_divergence(image, text), expected)


def test_kl_goes_from_image_to_text() -> None:
    narrow = Gaussian(torch.zeros(1, 1), torch.full((1, 1), 0.1))
    wide = Gaussian(torch.zeros(1, 1), torch.ones(1, 1))
    assert kl_divergence(image=wide, text=narrow) > kl_divergence(image=narrow, text=wide)


def test_kl_is_zero_between_equals_and_else_positive() -> None:
    image, text = gaussian(8, 768), gaussian(8, 768)
    torch.testing.assert_close(kl_divergence(image, image), torch.zeros(8))
    assert kl_divergence(image, text).gt(0).all()


def test_info_nce_of_two_pairs_by_hand() -> None:
    """Row 1: ln(e² + e⁰) − 2 = ln(1 + e⁻²), row 2: ln(e⁰ + e¹) − 1 = ln(1 + e⁻¹); their mean."""
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert info_nce(scores).item() == pytest.approx(expected)


def test_info_nce_contrasts_a_text_with_all_images() -> None:
    """Texts are in rows: [[0, 0], [9, 9]] is uniform within each, ln 2."""
    assert info_nce(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_info_nce_at_chance_is_ln_batch(batch: int) -> None:
    assert info_nce(torch.full((batch, batch), 3.0)).item() == pytest.approx(math.log(batch), abs=1e-6)


def test_info_nce_is_torchs_cross_entropy() -> None:
    scores = torch.randn(7, 7) * 5
    torch.testing.assert_close(info_nce(scores), F.cross_entropy(scores, torch.arange(7)))


def test_info_nce_survives_overflowing_exponentials() -> None:
    assert info_nce(torch.tensor([[500.0, 0.0], [0.0, 500.0]])).item() == 0


def test_mean_rank_by_hand() -> None:
    """Row 1: 2 and 3 beat 1, rank 3. Row 2: 5 is best, rank 1. Row 3: 1 beats 0, rank 2."""
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, 4.0], [1.0, -1.0, 0.0]])
    assert mean_rank(scores).item() == 2


def test_mean_rank_of_a_dead_critic_is_chance() -> None:
    """A dead critic scores all alike and would look perfect if ties won. (B + 1) / 2 = 3 for B = 5."""
    assert mean_rank(torch.zeros(5, 5)).item() == 3


class Scripted(torch.nn.Module):
    """A network that returns a fixed output for any input."""

    def __init__(self, output: SMNEROutput) -> None:
        super().__init__()
        self.output = output
        self.masks: list[Tensor] = []

    def forward(self, **inputs: Tensor) -> SMNEROutput:
        if "image_mask" in inputs:
            self.masks.append(inputs["image_mask"])
        return self.output


def objective(network: Any, **changes: float) -> Objective:
    weights = {"no_entity_weight": 0.5, "cmib_weight": 0.1, "cmib_beta": 0.01}
    return Objective(network, **{**weights, **changes})


@pytest.fixture
def batch(smner: SMNER, processor: SMNERProcessor) -> dict[str, Tensor]:
    """Three posts with features, the second without an image; every span is "no entity"."""
    inputs = processor(TEXTS)
    labels = torch.where(enumerate_spans(inputs["morphs"] != 0, 4).mask, 0, IGNORED)
    mask = torch.tensor([True, False, True])
    return {**inputs, "image_features": torch.randn(3, 5, 256), "image_mask": mask, "labels": labels}


def rows(batch: dict[str, Tensor], *posts: int) -> dict[str, Tensor]:
    return {key: tensor[list(posts)] for key, tensor in batch.items()}


def test_total_is_spans_plus_weighted_bottleneck(smner: SMNER, batch: dict[str, Tensor]) -> None:
    """L = L_cls + λ (InfoNCE + β KL)."""
    losses = objective(smner, cmib_weight=0.3, cmib_beta=0.2)(batch)
    torch.testing.assert_close(losses.total, losses.spans + 0.3 * (losses.info_nce + 0.2 * losses.kl))
    assert min(losses) > 0
    assert 1 <= losses.rank <= 2


def test_without_cmib_total_is_the_spans_loss() -> None:
    network = Scripted(SMNEROutput(logits=torch.zeros(1, 2, 3)))
    losses = objective(network)({"labels": torch.tensor([[1, 2]])})
    torch.testing.assert_close(losses.total, torch.tensor(LN3))
    assert losses == Losses(losses.spans, losses.spans, *[torch.tensor(0.0)] * 3)


def test_bottleneck_sees_only_posts_with_images(smner: SMNER, batch: dict[str, Tensor]) -> None:
    together, alone = (objective(smner)(own) for own in (batch, rows(batch, 0, 2)))
    torch.testing.assert_close(together[2:], alone[2:])
    assert together.info_nce.item() != pytest.approx(math.log(3), abs=1e-3)


def test_kl_is_the_mean_over_posts_with_images(smner: SMNER, batch: dict[str, Tensor]) -> None:
    output = smner(**{key: tensor for key, tensor in batch.items() if key != "labels"})
    kl = kl_divergence(output.image_posterior, output.text_posterior)
    torch.testing.assert_close(objective(smner)(batch).kl, (kl[0] + kl[2]) / 2)


def test_a_batch_without_images_has_no_bottleneck_loss(smner: SMNER, batch: dict[str, Tensor]) -> None:
    losses = objective(smner, image_dropout=0.999999)(batch)
    assert losses[2:] == (0, 0, 0)
    assert losses.total == losses.spans


def test_info_nce_contrasts_the_critics_scores() -> None:
    critic, text, image = MLPCritic(4), gaussian(3, 4), gaussian(3, 4)
    terms = bottleneck_terms(critic, text, image, text.mean, image.mean)
    assert terms is not None
    torch.testing.assert_close(terms[0], info_nce(critic(text.mean, image.mean)))
    torch.testing.assert_close(terms[1], torch_kl(Normal(*image), Normal(*text)).sum(1).mean())


def test_single_post_has_kl_but_no_contrast() -> None:
    text, image = gaussian(1, 4), gaussian(1, 4)
    terms = bottleneck_terms(MLPCritic(4), text, image, text.mean, image.mean)
    assert terms is not None
    assert (terms[0].item(), terms[2].item()) == (0, 1)
    torch.testing.assert_close(terms[1], kl_divergence(image, text)[0])


def test_untagged_posts_contribute_the_bottleneck_alone(smner: SMNER, batch: dict[str, Tensor]) -> None:
    losses = objective(smner)({**batch, "labels": torch.full_like(batch["labels"], IGNORED)})
    assert losses.spans == 0
    torch.testing.assert_close(losses.total, 0.1 * (losses.info_nce + 0.01 * losses.kl))
    losses.total.backward()
    assert smner.bottleneck is not None
    assert smner.bottleneck.text_posterior.head.weight.grad is not None
    assert all(p.grad is None or p.grad.count_nonzero() == 0 for p in smner.classifier.parameters())


def test_every_parameter_of_the_heads_is_trained(smner: SMNER, batch: dict[str, Tensor]) -> None:
    torch.autograd.backward(objective(smner.train())(batch).total)
    idle = [name for name, p in smner.named_parameters() if p.grad is None]
    assert all(name.startswith(("image_encoder.", "text_encoder.pooler.")) for name in idle)


def twice(logits: Tensor, labels: Tensor, **more: Any) -> Losses:
    """Two passes over posts of one word each, with the logits given."""
    spans = enumerate_spans(torch.ones(len(logits), 1, dtype=torch.bool), 1)
    network = Scripted(SMNEROutput(logits=logits, spans=spans, **more))
    found: Losses = objective(network, consistency_weight=2)({"labels": labels})
    return found


def test_two_passes_add_the_weighted_divergence() -> None:
    """An untagged word, so there is no span loss: 2 · ⅛ ln 3."""
    losses = twice(torch.tensor([[[0, 0]], [[0, LN3]]]), torch.tensor([[IGNORED]]))
    torch.testing.assert_close(losses.total, torch.tensor(LN3 / 4))
    assert losses.spans == 0


def test_span_loss_averages_the_two_passes() -> None:
    """Ln 3 for the first pass and 0 for the second, which is certain."""
    losses = twice(torch.tensor([[[0.0, 0, 0]], [[0, 1000, 0]]]), torch.tensor([[1]]))
    torch.testing.assert_close(losses.spans, torch.tensor(LN3 / 2))


def test_a_pass_without_images_adds_no_bottleneck_loss() -> None:
    """Two posts with images in the first pass only: half of its terms, and its rank."""
    text, image = gaussian(4, 4), gaussian(4, 4)
    output = SMNEROutput(
        logits=torch.zeros(4, 1, 3),
        spans=enumerate_spans(torch.ones(4, 1, dtype=torch.bool), 1),
        text_posterior=text,
        image_posterior=image,
        text_sample=text.mean,
        image_sample=image.mean,
        image_mask=torch.tensor([True, True, False, False]),
    )
    network = Scripted(output)
    bottleneck = CrossModalBottleneck(4, initial_deviation=0.1)
    network.bottleneck = bottleneck
    losses = objective(network, consistency_weight=1)({"labels": torch.zeros(2, 1, dtype=torch.int64)})
    first = torch.tensor([0, 1])
    alone = bottleneck_terms(bottleneck.critic, text.select(first), image.select(first), text.mean[:2], image.mean[:2])
    assert alone is not None
    torch.testing.assert_close((losses.info_nce, losses.kl, losses.rank), (alone[0] / 2, alone[1] / 2, alone[2]))


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, 1.0), (0.3, 0.7), (0.9, 0.1)])
def test_image_dropout_drops_each_with_its_chance(dropout: float, expected: float) -> None:
    """300 draws: four standard deviations at 0.7 are 0.11."""
    network = Scripted(SMNEROutput(logits=torch.zeros(2, 1, 3)))
    mask = torch.tensor([True, False])
    for _ in range(300):
        objective(network, image_dropout=dropout)({"labels": torch.zeros(2, 1, dtype=torch.int64), "image_mask": mask})
    kept = torch.stack(network.masks).float().mean(0)
    assert kept[1] == 0
    assert float(kept[0]) == pytest.approx(expected, abs=0.11 if dropout else 0)
    assert mask.tolist() == [True, False]  # the batch itself is unchanged


def test_each_pass_drops_its_own_images() -> None:
    spans = enumerate_spans(torch.ones(8, 1, dtype=torch.bool), 1)
    network = Scripted(SMNEROutput(logits=torch.zeros(8, 1, 3), spans=spans))
    consistent = objective(network, consistency_weight=1, image_dropout=0.5)
    for _ in range(10):
        consistent({"labels": torch.zeros(4, 1, dtype=torch.int64), "image_mask": torch.ones(4, dtype=torch.bool)})
    assert [len(mask) for mask in network.masks] == [8] * 10  # both passes in one batch
    assert any(not torch.equal(*mask.chunk(2)) for mask in network.masks)
