import math

import pytest
import torch
import torch.nn.functional as F

from model.modeling.bottleneck import BottleneckLoss
from model.modeling.smner import SMNEROutput
from model.modeling.spans import enumerate_spans
from training.data.dataset import IGNORED
from training.learning.objective import Objective, span_cross_entropy, symmetric_divergence

LN3 = math.log(3)  # three classes with equal logits
TERMS = BottleneckLoss(info_nce=torch.tensor(2.0), kl=torch.tensor(10.0), rank=torch.tensor(1.5))


def test_no_entity_is_weighted_and_the_mean_is_over_real_spans() -> None:
    """(0.5 · ln 3 + 1 · ln 3) / 2: the weights are not in the denominator, the padding span is nowhere."""
    loss = span_cross_entropy(torch.zeros(1, 3, 3), torch.tensor([[0, 2, IGNORED]]), no_entity_weight=0.5)
    torch.testing.assert_close(loss, torch.tensor(1.5 * LN3 / 2))


def test_an_unequal_case_by_hand() -> None:
    """Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4): −ln 1/2 · 0.1 for "no entity", −ln 1/4 for class 1."""
    logits = torch.tensor([[[math.log(2), 0, 0], [math.log(2), 0, 0]]])
    loss = span_cross_entropy(logits, torch.tensor([[0, 1]]), no_entity_weight=0.1)
    torch.testing.assert_close(loss, torch.tensor((0.1 * math.log(2) + math.log(4)) / 2))


def test_the_mean_is_over_the_spans_of_the_batch_not_over_posts() -> None:
    """Four spans of class 1 at ln 3 and one at 0: a mean of post means would be ln 3 / 2."""
    logits = torch.zeros(2, 4, 3)
    logits[1, 0, 1] = 1000
    labels = torch.tensor([[1, 1, 1, 1], [1, IGNORED, IGNORED, IGNORED]])
    torch.testing.assert_close(span_cross_entropy(logits, labels, no_entity_weight=1), torch.tensor(4 * LN3 / 5))


@pytest.mark.parametrize("seed", range(3))
def test_with_equal_weights_it_is_torchs_cross_entropy(seed: int) -> None:
    torch.manual_seed(seed)
    logits, labels = torch.randn(4, 7, 5), torch.randint(0, 5, (4, 7))
    labels[torch.rand(4, 7) < 0.3] = IGNORED
    expected = F.cross_entropy(logits.view(-1, 5), labels.view(-1), ignore_index=IGNORED)
    torch.testing.assert_close(span_cross_entropy(logits, labels, no_entity_weight=1), expected)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.randn(1, 5000, 5).bfloat16()
    loss = span_cross_entropy(logits, torch.zeros(1, 5000, dtype=torch.int64), no_entity_weight=1)
    assert loss.dtype == torch.float32


def test_padding_has_no_gradient_whatever_its_logits() -> None:
    logits = torch.tensor([[[1.0, 2.0], [1e30, -1e30]]], requires_grad=True)
    torch.autograd.backward(span_cross_entropy(logits, torch.tensor([[1, IGNORED]]), no_entity_weight=0.5))
    assert logits.grad is not None
    assert logits.grad[0, 0].abs().sum() > 0
    assert logits.grad[0, 1].tolist() == [0, 0]


def objective() -> Objective:
    return Objective(no_entity_weight=0.5, cmib_weight=0.1, cmib_beta=0.01, consistency_weight=2)


def test_the_total_is_spans_plus_lambda_times_info_nce_plus_beta_kl() -> None:
    """Ln 3 + 0.1 · (2 + 0.01 · 10) = ln 3 + 0.21."""
    losses = objective()(SMNEROutput(logits=torch.zeros(1, 2, 3), bottleneck=TERMS), torch.tensor([[1, 2]]))
    torch.testing.assert_close(losses.total, torch.tensor(LN3 + 0.21))
    assert (float(losses.info_nce), float(losses.kl), float(losses.rank)) == (2, 10, 1.5)
    torch.testing.assert_close(losses.spans, torch.tensor(LN3))


def test_without_a_bottleneck_the_total_is_the_spans_loss() -> None:
    losses = objective()(SMNEROutput(logits=torch.zeros(1, 2, 3)), torch.tensor([[1, 2]]))
    assert losses.total == losses.spans
    assert [float(term) for term in losses[2:]] == [0, 0, 0]


def test_untagged_posts_contribute_the_bottleneck_alone() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    contrast = torch.tensor(2.0, requires_grad=True)
    output = SMNEROutput(logits=logits, bottleneck=TERMS._replace(info_nce=contrast))
    losses = objective()(output, torch.full((2, 3), IGNORED))
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert losses.spans == 0
    torch.testing.assert_close(losses.total.detach(), torch.tensor(0.21))
    assert logits.grad is not None
    assert logits.grad.count_nonzero() == 0
    torch.testing.assert_close(contrast.grad, torch.tensor(0.1))


def test_an_untagged_post_beside_a_tagged_one_changes_neither_its_loss_nor_its_gradient() -> None:
    alone = torch.randn(1, 3, 4, requires_grad=True)
    beside = torch.cat([alone.detach(), torch.randn(1, 3, 4)]).requires_grad_()
    tagged = torch.tensor([[0, 1, 2]])
    losses = [
        span_cross_entropy(alone, tagged, no_entity_weight=0.5),
        span_cross_entropy(beside, torch.cat([tagged, torch.full((1, 3), IGNORED)]), no_entity_weight=0.5),
    ]
    torch.autograd.backward(losses)
    torch.testing.assert_close(losses[0], losses[1])
    assert alone.grad is not None
    assert beside.grad is not None
    torch.testing.assert_close(beside.grad, torch.cat([alone.grad, torch.zeros(1, 3, 4)]))


def test_the_divergence_between_two_passes_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4): ½ Σ (p − q)(ln p − ln q) = ½ (¼ ln 2 − ¼ ln ⅔) = ⅛ ln 3, for one of two spans."""
    first = torch.zeros(1, 3, 2)
    second = torch.tensor([[[0, LN3], [0, 0], [5, -5]]])
    real = torch.tensor([[True, True, False]])
    torch.testing.assert_close(symmetric_divergence(first, second, real), torch.tensor(LN3 / 8 / 2))


def test_the_divergence_is_torchs_in_both_directions_and_zero_between_equals() -> None:
    first, second = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    p, q = first.log_softmax(-1).flatten(0, 1), second.log_softmax(-1).flatten(0, 1)
    there, back = (F.kl_div(b, a, reduction="batchmean", log_target=True) for a, b in ((p, q), (q, p)))
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(symmetric_divergence(first, second, everywhere), (there + back) / 2)
    assert symmetric_divergence(first, first, everywhere) == 0


def test_two_passes_score_their_mean_plus_the_weighted_divergence() -> None:
    """An untagged word, so that no span loss is in the way: the passes' mean bottleneck 0.21, and 2 · ⅛ ln 3."""
    spans = enumerate_spans(torch.ones(2, 1, dtype=torch.bool), 4)
    logits = torch.tensor([[[0, 0]], [[0, LN3]]])
    losses = objective().twice(SMNEROutput(logits=logits, spans=spans, bottleneck=TERMS), torch.tensor([[IGNORED]]))
    torch.testing.assert_close(losses.total, torch.tensor(0.21 + LN3 / 4))
    assert losses.spans == 0


def test_the_span_loss_of_two_passes_is_their_mean() -> None:
    """Ln 3 for the first copy and 0 for the second, which is sure; the divergence is not weighed here."""
    spans = enumerate_spans(torch.ones(2, 1, dtype=torch.bool), 1)
    logits = torch.tensor([[[0.0, 0, 0]], [[0, 1000, 0]]])
    losses = objective().twice(SMNEROutput(logits=logits, spans=spans), torch.tensor([[1]]))
    torch.testing.assert_close(losses.spans, torch.tensor(LN3 / 2))
